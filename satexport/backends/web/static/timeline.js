/** The last minutes as a picture: a row per sound that reached the threshold, darkness for its score. */

import {clock} from './dom.js';
import {above, LOWEST} from './history.js';
import {AXIS, Picture} from './picture.js';

const SPANS = [20, 60, 120, 300];  // s that the picture may show
const NARROW = 620;  // CSS pixels; below it a label stands over its row
const ROWS = 12;
const EDGE = 4;

/** @typedef {import('./history.js').Heard} Heard */
/** @typedef {import('./history.js').History} History */
/** @typedef {import('./picture.js').Layout} Layout */

export class Timeline {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} frame  takes the keyboard: a slider through time
   * @param {HTMLElement} readout  the values at the cursor
   * @param {History} history
   * @param {string[]} labels
   */
  constructor(canvas, frame, readout, history, labels) {
    this.canvas = canvas;
    this.frame = frame;
    this.readout = readout;
    this.history = history;
    this.labels = labels;
    this.threshold = 0;  // until View sets it
    /** @type {Heard | null} */
    this.cursor = null;
    /** @type {Map<number, number>} class -> the place in which it was first shown */
    this.order = new Map();
    this.layout = this.measure(1);
    frame.addEventListener('keydown', (event) => this.onKey(event));
    frame.addEventListener('blur', () => this.point(null));
    canvas.addEventListener('pointermove', (event) => this.onPointer(event));
    canvas.addEventListener('pointerdown', (event) => this.onPointer(event));
    canvas.addEventListener('pointerleave', (event) => { if (event.pointerType === 'mouse') this.point(null); });
    new ResizeObserver(() => this.draw()).observe(frame);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
    document.addEventListener('visibilitychange', () => this.draw());
  }

  /** @param {number} threshold */
  setThreshold(threshold) {
    this.threshold = threshold;
    this.draw();
  }

  clear() {
    this.order.clear();
    this.cursor = null;
    this.draw();
  }

  /** The chunks in view, at most SPANS' last seconds. */
  visible() {
    const {from, span} = this.layout;
    const chunks = this.history.chunks;
    let first = chunks.length;
    while (first > 0 && (chunks[first - 1]?.at ?? 0) >= from - 1e-3) first--;
    return chunks.slice(first).filter((heard) => heard.at < from + span);
  }

  /**
   * Rows of the chunks in view: those heard first come first; if there are too many, the strongest stay.
   * @param {Heard[]} chunks
   */
  rows(chunks) {
    /** @type {Map<number, number>} */
    const peaks = new Map();
    for (const heard of chunks) {
      for (const [index, score] of above(heard, this.threshold)) {
        peaks.set(index, Math.max(score, peaks.get(index) ?? 0));
        if (!this.order.has(index)) this.order.set(index, this.order.size);
      }
    }
    const strongest = [...peaks].sort((a, b) => b[1] - a[1]).slice(0, ROWS).map(([index]) => index);
    return strongest.sort((a, b) => (this.order.get(a) ?? 0) - (this.order.get(b) ?? 0));
  }

  /**
   * @param {number} rowCount
   * @returns {Layout}
   */
  measure(rowCount) {
    const width = this.frame.clientWidth;
    const labelsAbove = width < NARROW;
    const left = labelsAbove ? 0 : Math.min(220, Math.round(width * 0.24));
    const oldest = this.history.chunks[0]?.at ?? 0;
    const longest = labelsAbove ? 120 : 300;
    const span = SPANS.find((seconds) => seconds >= this.history.end - oldest && seconds <= longest) ?? longest;
    let from = Math.max(oldest, this.history.end - span);
    if (this.cursor) from = Math.min(from, Math.max(oldest, this.cursor.at - span / 10));
    const rowHeight = labelsAbove ? 36 : 24;
    this.canvas.style.height = `${Math.max(rowCount, 3) * rowHeight + AXIS}px`;
    return {left, width: width - left - EDGE, rowHeight, labelsAbove, from, span};
  }

  draw() {
    if (document.hidden || !this.frame.clientWidth) return;
    this.layout = this.measure(1);
    const chunks = this.visible();
    const rows = this.rows(chunks);
    this.layout = this.measure(rows.length);
    const [width, height] = [this.frame.clientWidth, this.canvas.clientHeight];
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const context = this.canvas.getContext('2d');
    if (!context) return;
    context.scale(scale, scale);
    const picture = new Picture(context, this.layout, height, getComputedStyle(this.frame));
    picture.axis(chunks);
    rows.forEach((index, place) => picture.row(place, index, this.labels[index] ?? '', chunks));
    if (this.cursor) picture.cursor(this.cursor);
    this.describe(chunks);
  }

  /** @param {PointerEvent} event */
  onPointer(event) {
    const {left, width, from, span} = this.layout;
    const at = from + (event.offsetX - left) / width * span;
    this.point(this.visible().find((heard) => at >= heard.at && at < heard.at + heard.end - heard.start) ?? null);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const chunks = this.history.chunks;
    const now = this.cursor ? chunks.indexOf(this.cursor) : chunks.length;
    /** @type {Record<string, number>} */
    const moves = {
      ArrowLeft: now - 1, ArrowDown: now - 1, PageDown: now - 10, Home: 0,
      ArrowRight: now + 1, ArrowUp: now + 1, PageUp: now + 10, End: chunks.length - 1,
    };
    const place = moves[event.key];
    if (event.key === 'Escape') this.point(null);
    if (place === undefined || !chunks.length) return;
    event.preventDefault();
    this.point(chunks[Math.min(chunks.length - 1, Math.max(0, place))] ?? null);
  }

  /** @param {Heard | null} cursor */
  point(cursor) {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.draw();
  }

  /**
   * The values at the cursor in words, for the eye and as the slider's value.
   * @param {Heard[]} chunks
   */
  describe(chunks) {
    const all = this.history.chunks;
    const place = this.cursor ? all.indexOf(this.cursor) : all.length - 1;
    const heard = all[place];
    const words = heard ? sentence(heard, this.labels) : 'Nothing heard yet';
    const hint = chunks.length ? 'Point at a time, or use the arrow keys, for its scores.' : '';
    this.readout.textContent = this.cursor ? words : hint;
    this.frame.setAttribute('aria-valuemax', String(Math.max(0, all.length - 1)));
    this.frame.setAttribute('aria-valuenow', String(Math.max(0, place)));
    this.frame.setAttribute('aria-valuetext', words);
  }
}

/**
 * A chunk in words: "dog.wav, 0:02 to 0:04: Dog 0.93, Rain 0.40".
 * @param {Heard} heard
 * @param {readonly string[]} labels
 */
function sentence(heard, labels) {
  const sounds = above(heard, LOWEST).slice(0, 5).map(([index, score]) => `${labels[index]} ${score.toFixed(2)}`);
  const time = `${heard.source.name}, ${clock(heard.start)} to ${clock(heard.end)}`;
  return `${time}: ${sounds.join(' \u00b7 ') || `nothing above ${LOWEST}`}`;
}
