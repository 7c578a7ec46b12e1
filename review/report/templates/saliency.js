
// Maps over the pictures: m changes all of them, a click one of them.
{
  const choices = [...document.querySelectorAll("input[name=look]")];
  const all = () => choices.find((choice) => choice.checked)?.value;
  const forget = () => {
    for (const figure of document.querySelectorAll("figure[data-look]")) delete figure.dataset.look;
  };
  for (const choice of choices) choice.addEventListener("change", forget);
  if (choices.length) document.body.classList.add("clickable");

  addEventListener("keydown", (event) => {
    if (!choices.length || event.key !== "m" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select")) return;
    choices[(choices.findIndex((choice) => choice.checked) + 1) % choices.length].checked = true;
    forget();
  });
  document.addEventListener("click", (event) => {
    const figure = event.target.closest(".look")?.parentElement;
    if (!figure) return;
    const order = ["picture", "answer"];
    if (figure.querySelector(".map.true:not(.answer)")) order.push("true");
    figure.dataset.look = order[(order.indexOf(figure.dataset.look ?? all()) + 1) % order.length];
  });
}
