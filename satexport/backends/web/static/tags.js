/** The sounds heard now: a bar each, in an order that changes only if it must. */

import {make} from './dom.js';
import {top} from './satexport.js';

const ROWS = 6;
const OVERTAKE = 1.25;  // a sound moves up if its score is higher than this times the other's, and by LEAD
const LEAD = 0.02;

/** @typedef {{index: number, label: string, score: number}} Tag */

/**
 * The next rows: strongest sounds, those that stay in their places, and neighbours swapped if one overtook the other.
 * @param {readonly number[]} shown  classes, from top to bottom
 * @param {readonly Tag[]} best  strongest first
 * @returns {Tag[]}
 */
export function arrange(shown, best) {
  const waiting = new Map(best.map((tag) => [tag.index, tag]));
  const kept = shown.map((index) => {
    const tag = waiting.get(index);
    waiting.delete(index);
    return tag;
  });
  const fresh = waiting.values();
  /** @type {Tag[]} */
  const rows = [];
  for (let place = 0; place < best.length; place++) {
    const tag = kept[place] ?? fresh.next().value;
    if (tag) rows.push(tag);
  }
  for (let round = 0; round < rows.length; round++) {
    for (let place = rows.length - 1; place > 0; place--) {
      const [upper, lower] = [rows[place - 1], rows[place]];
      const overtakes = upper && lower && lower.score > OVERTAKE * upper.score + LEAD;
      if (overtakes) [rows[place - 1], rows[place]] = [lower, upper];
    }
  }
  return rows;
}

export class TagList {
  /**
   * @param {HTMLOListElement} list
   * @param {string[]} labels
   */
  constructor(list, labels) {
    this.list = list;
    this.labels = labels;
    /** @type {number[]} */
    this.shown = [];
    this.threshold = 0;
  }

  /** @param {Float32Array} scores */
  show(scores) {
    const rows = arrange(this.shown, top(scores, this.labels, ROWS));
    this.shown = rows.map((tag) => tag.index);
    if (!this.list.children.length) this.list.replaceChildren(...rows.map(emptyRow));
    rows.forEach((tag, place) => this.fill(/** @type {HTMLElement} */ (this.list.children[place]), tag));
  }

  /** @param {number} threshold */
  setThreshold(threshold) {
    this.threshold = threshold;
    this.list.style.setProperty('--threshold', String(threshold));
    for (const row of this.list.children) mark(/** @type {HTMLElement} */ (row), threshold);
  }

  clear() {
    this.shown = [];
    this.list.replaceChildren();
  }

  /**
   * @param {HTMLElement} row
   * @param {Tag} tag
   */
  fill(row, tag) {
    const [name, bar, score] = /** @type {HTMLCollectionOf<HTMLElement>} */ (row.children);
    if (!name || !bar || !score) return;
    if (name.textContent !== tag.label) {
      name.textContent = tag.label;
      name.title = tag.label;
    }
    bar.style.setProperty('--score', tag.score.toFixed(3));
    score.textContent = tag.score.toFixed(2);
    row.dataset['score'] = String(tag.score);
    mark(row, this.threshold);
  }
}

function emptyRow() {
  const row = make('li');
  const bar = make('span', '', 'bar');
  bar.append(make('span'));
  row.append(make('span', '', 'name'), bar, make('span', '', 'score'));
  return row;
}

/**
 * @param {HTMLElement} row
 * @param {number} threshold
 */
function mark(row, threshold) {
  row.classList.toggle('above', Number(row.dataset['score'] ?? -1) >= threshold);
}
