// Columns of tables sort by a click on their heads. The page reads without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numbers = head.classList.contains("n");
      const key = (row) => {
        const cell = row.cells[column];
        return numbers ? (cell.dataset.key === undefined ? null : Number(cell.dataset.key)) : cell.textContent;
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // nothing measured comes last either way
        return (numbers ? a - b : a.localeCompare(b)) * (up ? 1 : -1);
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
