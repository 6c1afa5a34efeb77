// What will be sent with the next message. Value: [{kind, file (null where there is none to see), label}]. Triggers: detach.
const FACE = {
  image: (part) => node("img", { src: address(part.file), alt: "Picture", className: "omni-crisp" }),
  video: (part) => node("video", { src: address(part.file), muted: true, playsInline: true, preload: "metadata" }),
  audio: (part) => node("audio", { src: address(part.file), controls: true, preload: "metadata" }),
  document: (part) => part.file && node("img", { src: address(part.file), alt: "" }),
};
const draw = () => root.replaceChildren(...props.value.map((part, index) =>
  node("div", { className: `omni-chip omni-chip-${part.kind}` }, FACE[part.kind](part), icon(part.kind),
    node("span", { textContent: part.label }),
    iconButton("close", `Remove ${part.label}`, () => trigger("detach", { index })))));
watch("value", draw);
draw();
