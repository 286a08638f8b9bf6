/** The timeline as a table, for screen readers and for everybody who opens it: a row per chunk with sounds. */

import {clock, make} from './dom.js';
import {above} from './history.js';

const ROWS = 150;  // the last chunks that are shown

/** @typedef {import('./history.js').Heard} Heard */

export class Table {
  /**
   * @param {HTMLDetailsElement} details
   * @param {HTMLTableSectionElement} body
   * @param {import('./history.js').History} history
   * @param {string[]} labels
   */
  constructor(details, body, history, labels) {
    this.details = details;
    this.body = body;
    this.history = history;
    this.labels = labels;
    this.threshold = 0;  // until View sets it
    details.addEventListener('toggle', () => this.rebuild());
  }

  /** @param {number} threshold */
  setThreshold(threshold) {
    this.threshold = threshold;
    this.rebuild();
  }

  rebuild() {
    this.body.replaceChildren();
    if (this.details.open) this.history.chunks.slice(-ROWS).forEach((heard) => this.add(heard));
  }

  /** @param {Heard} heard */
  add(heard) {
    if (!this.details.open) return;
    const sounds = above(heard, this.threshold).map(([index, score]) => `${this.labels[index]} ${score.toFixed(2)}`);
    if (!sounds.length) return;
    const row = make('tr');
    const time = make('th', `${clock(heard.start)}\u2013${clock(heard.end)}`);
    time.scope = 'row';
    row.append(time, make('td', heard.source.name, 'from'), make('td', sounds.join(', ')));
    this.body.append(row);
    if (this.body.rows.length > ROWS) this.body.rows[0]?.remove();
  }
}
