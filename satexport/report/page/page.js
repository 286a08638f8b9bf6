'use strict';
// Tables sort by a button in each head; folded parts are open on paper. Without this script all is there, unsorted.

const NUMBER = /^\[?([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)/i;   // of an interval, its lower end

function value(row, column, isNumber) {
  const text = row.cells[column].textContent.trim();
  if (!isNumber) return text;
  const found = NUMBER.exec(text);
  return found ? Number(found[1]) : null;
}

function sortBy(table, column, isNumber, isRising) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({row, value: value(row, column, isNumber)}));
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    const order = isNumber ? a.value - b.value : a.value.localeCompare(b.value, 'en', {numeric: true});
    return isRising ? order : -order;
  });
  body.append(...rows.map(({row}) => row));
}

for (const table of document.querySelectorAll('table[data-sort]')) {
  if (table.tBodies[0].rows.length < 2) continue;
  for (const head of table.tHead.querySelectorAll('th')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const isRising = head.getAttribute('aria-sort') !== 'ascending';
      for (const other of table.tHead.querySelectorAll('[aria-sort]')) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', isRising ? 'ascending' : 'descending');
      sortBy(table, head.cellIndex, head.classList.contains('n'), isRising);
    });
  }
}

// Only a table that is wider than its place can be scrolled, and so needs the focus.
const regions = new ResizeObserver((entries) => {
  for (const {target} of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute('tabindex');
  }
});
for (const region of document.querySelectorAll('.scroll')) regions.observe(region);

let opened = [];
addEventListener('beforeprint', () => {
  opened = [...document.querySelectorAll('details:not([open])')];
  for (const details of opened) details.open = true;
});
addEventListener('afterprint', () => {
  for (const details of opened) details.open = false;
});
