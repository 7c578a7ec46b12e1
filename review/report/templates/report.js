
// The report: a cell of the confusion matrix, or a pair of classes, shows its pictures.
{
  const shown = document.getElementById("shown");
  const title = shown.querySelector(".title");
  const pictures = shown.querySelector(".pics");
  const matrix = document.getElementById("matrix");
  const figures = new Map();
  for (const figure of document.querySelectorAll(".groups figure.pic[data-true]")) {
    const key = `${figure.dataset.true} ${figure.dataset.predicted}`;
    figures.set(key, [...(figures.get(key) || []), figure]);
  }

  const show = (link) => {
    const { true: label, predicted } = link.dataset;
    const found = figures.get(`${label} ${predicted}`) || [];
    const cell = matrix.querySelector(`a[data-true="${label}"][data-predicted="${predicted}"]`);
    for (const other of matrix.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    if (cell) cell.setAttribute("aria-current", "true");
    const what = document.createElement("strong");
    what.textContent = (cell || link).querySelector(".unseen").textContent.replace(/^pictures of |: $/g, "");
    const all = document.createElement("a");
    all.href = `#c${label}`;
    all.textContent = "the whole class";
    const many = found.length === 1 ? "1 picture" : `${found.length || "no"} pictures in this report`;
    title.replaceChildren(what, ` ${many} · `, all);
    pictures.replaceChildren(...found.map((figure) => figure.cloneNode(true)));
    pictures.scrollTop = 0;
    shown.classList.add("used");
    shown.scrollIntoView({ block: "nearest" });
  };

  const unfold = document.getElementById("unfold");
  if (unfold) {
    unfold.hidden = false;
    unfold.addEventListener("click", () => {
      const open = unfold.textContent === "Open all";
      for (const part of document.querySelectorAll("details.batch, details.class")) part.open = open;
      unfold.textContent = open ? "Close all" : "Open all";
    });
  }

  shown.hidden = false;
  for (const part of document.querySelectorAll(".keys")) part.hidden = false;
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-true]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    show(link);
  });

  // One stop for the tab key; arrows go from cell to cell, over the empty ones.
  const cells = [...matrix.querySelectorAll("a[data-true]")];
  const stop = (link) => {
    for (const other of cells) other.tabIndex = other === link ? 0 : -1;
  };
  if (cells.length) stop(cells[0]);
  matrix.addEventListener("focusin", (event) => cells.includes(event.target) && stop(event.target));
  matrix.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const from = event.target.closest("td");
    if (!step || !from) return;
    event.preventDefault();
    const rows = [...matrix.tBodies[0].rows];
    let [row, column] = [rows.indexOf(from.parentElement), from.cellIndex];
    for (;;) {
      row += step[0];
      column += step[1];
      const cell = rows[row]?.cells[column];
      if (!cell) return;
      const link = cell.querySelector("a[data-true]");
      if (link) {
        link.focus();
        return;
      }
    }
  });
}
