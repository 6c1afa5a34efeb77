// In front of Gradio. The timer of its loading screen outlives the screen (Gradio 6.31) and would have the page drawn anew at
// every frame for good: a twentieth of a core. Its timers tick once a second here.
(() => {
  const frame = window.requestAnimationFrame.bind(window);
  const isTimer = (source) => source.length < 200 && /performance\.now\(\).*1e3/.test(source);
  window.requestAnimationFrame = (callback) =>
    isTimer(String(callback)) ? setTimeout(() => frame(callback), 1000) : frame(callback);
})();
