"use strict";
// What makes a page easier to use; everything is there and readable without it.
// - A header cell with data-sort="number" or "text" becomes a button that sorts; a cell's data-value (or its text)
//   counts, and empty values stay last. data-first="ascending" or "descending" is what the first press does.
// - <div class="filters" data-table="ID" hidden>: its search field looks at the row's first cell, its checkboxes
//   (value="failed") at the row's data-tags="failed changed"; its <output> says how many rows are left.
// - <table data-fold="50"> shows that many rows, and a button the rest; all of them are printed.

for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("thead th")];
  const filters = table.id ? document.querySelector(`.filters[data-table="${table.id}"]`) : null;
  const fold = Number(table.dataset.fold ?? Infinity);
  const rows = [...(body?.rows ?? [])];
  const more = document.createElement("button");

  const filter = () => {
    const text = (filters?.querySelector("input[type=search]")?.value ?? "").trim().toLowerCase();
    const tags = [...(filters?.querySelectorAll("input[type=checkbox]:checked") ?? [])].map((box) => box.value);
    let found = 0;
    for (const row of rows) {
      const has = (row.dataset.tags || "").split(" ");
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(text) || !tags.every((tag) => has.includes(tag));
      found += !row.hidden;
      row.classList.toggle("folded", more.isConnected && found > fold);
    }
    more.hidden = found <= fold;
    more.textContent = `Show all ${found.toLocaleString("en")}`;
    const output = filters?.querySelector("output");
    if (output) output.value = `${found.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };

  const sort = (head, index) => {
    const text = head.dataset.sort === "text";
    const before = head.getAttribute("aria-sort");
    const first = head.dataset.first || (text ? "ascending" : "descending");
    const direction = before === "ascending" ? "descending" : before === "descending" ? "ascending" : first;
    const sign = direction === "ascending" ? 1 : -1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const keys = new Map(rows.map((row) => {
      const cell = row.cells[index];
      const value = cell.dataset.value ?? cell.textContent.trim();
      return [row, text ? value : value === "" || Number.isNaN(Number(value)) ? null : Number(value)];
    }));
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      const [noX, noY] = [x === null || x === "", y === null || y === ""];
      if (noX || noY) return noX - noY;
      return sign * (text ? compare(x, y) : x - y);
    });
    body.append(...rows);
    filter();
  };

  heads.forEach((head, index) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, index));
    head.append(button);
  });
  if (rows.length > fold) {
    more.type = "button";
    more.className = "plain noprint";
    more.addEventListener("click", () => {
      more.remove();
      filter();
    });
    (table.closest(".scroll") ?? table).after(more);
  }
  if (filters) {
    filters.hidden = false;
    filters.addEventListener("input", filter);
  }
  filter();
}

// A link to or into a folded part opens it.
function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.localName === "details") part.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) reveal(); // no change, but it may have been closed since
});
reveal();

// Which part is being read, in the contents.
const contents = new Map(
  [...document.querySelectorAll("nav.contents a[href^='#']")].map((link) => [link.hash.slice(1), link]),
);
if (contents.size) {
  const parts = [...contents.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    let current = null;
    for (const part of parts) if (part.getBoundingClientRect().top < innerHeight / 3) current = part.id;
    for (const [id, link] of contents) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}
