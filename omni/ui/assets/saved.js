// Hands a file over to the browser as a download. Value: {file} or null.
watch("value", () => {
  if (props.value) node("a", { href: address(props.value.file), download: "conversation.zip" }).click();
});
