document.querySelectorAll("table.sortable").forEach(table => {
  table.querySelectorAll("th").forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const value = row => {
      const text = row.cells[column].textContent.trim();
      const number = parseFloat(text.replace(/−/g, "-").replace(/,/g, "").replace(/^< /, ""));
      return text === "–" || text === "" ? [2, 0] : Number.isNaN(number) ? [1, text] : [0, number];
    };
    const rows = [...table.tBodies[0].rows].map(row => [value(row), row]);
    rows.sort(([a], [b]) => a[0] === 2 || b[0] === 2 ? a[0] - b[0]
      : (rising ? 1 : -1) * (a[0] - b[0] || (a[0] ? String(a[1]).localeCompare(String(b[1])) : a[1] - b[1])));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
});
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; folded.forEach(d => d.open = true); });
addEventListener("afterprint", () => { folded.forEach(d => d.open = false); folded = []; });
