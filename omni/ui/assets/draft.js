// The reply that is under way, drawn by the thread. Value: {turn, message}.
const tell = () => {
  window.omniDraft = props.value;
  document.dispatchEvent(new Event("omni-draft"));
};
watch("value", tell);
