/** Draws the timeline: a row per sound, darkness for its score, and an axis in the time of each source. */

import {clock} from './dom.js';
import {LOWEST} from './history.js';

const BAR = 14;  // CSS pixels
export const AXIS = 26;
const GAP = 12;  // between two texts of the axis
const TICKS = [[20, 5], [60, 10], [120, 30], [300, 60]];  // s in view, s between two ticks

/** @typedef {import('./history.js').Heard} Heard */
/**
 * @typedef {object} Layout  in CSS pixels
 * @property {number} left  of the bars
 * @property {number} width  of the bars
 * @property {number} rowHeight
 * @property {boolean} labelsAbove  a label stands above its bar, not beside it
 * @property {number} from  s of the timeline at the left
 * @property {number} span  s in view
 */

export class Picture {
  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Layout} layout
   * @param {number} height
   * @param {CSSStyleDeclaration} style  of the element, with the page's colours
   */
  constructor(context, layout, height, style) {
    this.context = context;
    this.layout = layout;
    this.bottom = height - AXIS;
    this.style = style;
    context.font = `13px ${style.fontFamily}`;
    context.textBaseline = 'middle';
  }

  /** @param {string} name  of a colour in page.css */
  colour(name) { return this.style.getPropertyValue(name).trim(); }

  /** @param {number} at  s on the timeline */
  x(at) {
    const {left, width, from, span} = this.layout;
    return left + (at - from) / span * width;
  }

  /**
   * A row.
   * @param {number} place  from the top
   * @param {number} index  of its class
   * @param {string} label
   * @param {Heard[]} chunks
   */
  row(place, index, label, chunks) {
    const {context, layout: {left, width, rowHeight, labelsAbove}} = this;
    const top = place * rowHeight;
    const y = labelsAbove ? top + rowHeight - BAR - 3 : top + (rowHeight - BAR) / 2;
    context.fillStyle = this.colour('--ink');
    context.fillText(this.fit(label, labelsAbove ? width : left - 14), 0, labelsAbove ? top + 10 : top + rowHeight / 2);
    context.fillStyle = this.colour('--track');
    context.fillRect(left, y, width, BAR);
    context.fillStyle = this.colour('--accent');
    for (const heard of chunks) {
      const score = heard.scores[heard.classes.indexOf(index)] ?? 0;
      if (score < LOWEST) continue;
      const begin = Math.max(left, this.x(heard.at));
      const end = Math.min(left + width, this.x(heard.at + heard.end - heard.start));
      context.globalAlpha = 0.06 + 0.94 * score;
      context.fillRect(begin, y, Math.max(1, end - begin - (end - begin > 4 ? 1 : 0)), BAR);
    }
    context.globalAlpha = 1;
  }

  /**
   * The axis: the name of each source where it begins, if there are several, and ticks in its own time.
   * @param {Heard[]} chunks
   */
  axis(chunks) {
    const {context, bottom, layout: {left, width, span}} = this;
    context.strokeStyle = this.colour('--line');
    context.beginPath();
    context.moveTo(left, bottom + 0.5);
    context.lineTo(left + width, bottom + 0.5);
    /** @type {[number, number][]} where texts stand */
    const taken = [];
    if (chunks.some((heard) => heard.source !== chunks[0]?.source)) this.names(chunks, taken);
    context.fillStyle = this.colour('--soft');
    const step = TICKS.find(([seconds]) => (seconds ?? 0) >= span)?.[1] ?? 60;
    for (const heard of chunks) {
      const tick = Math.ceil(heard.start / step - 1e-6) * step;
      if (tick >= heard.end) continue;
      const x = Math.round(this.x(heard.source.offset + tick)) + 0.5;
      context.moveTo(x, bottom);
      context.lineTo(x, bottom + 5);
      this.write(clock(tick), x, taken);
    }
    context.stroke();
  }

  /**
   * @param {Heard[]} chunks
   * @param {[number, number][]} taken
   */
  names(chunks, taken) {
    const {context, bottom, layout: {left, width}} = this;
    const firsts = chunks.filter((heard, place) => heard.source !== chunks[place - 1]?.source);
    context.fillStyle = this.colour('--ink');
    firsts.forEach((heard, place) => {
      const x = Math.max(left, Math.round(this.x(heard.at)));
      const next = firsts[place + 1];
      const room = (next ? this.x(next.at) : left + width) - x - GAP;
      if (heard.start === 0) {
        context.moveTo(x + 0.5, 0);
        context.lineTo(x + 0.5, bottom + 8);
      }
      const text = this.fit(heard.source.name, room);
      if (text.length > 4) this.write(text, x + 0.5, taken);
    });
  }

  /**
   * Write a text below the axis if there is room for it.
   * @param {string} text
   * @param {number} x
   * @param {[number, number][]} taken
   */
  write(text, x, taken) {
    const {context, bottom, layout: {left, width}} = this;
    const end = x + context.measureText(text).width;
    if (end > left + width + 1 || taken.some(([from, to]) => x < to + GAP && end > from - GAP)) return;
    context.fillText(text, x, bottom + AXIS / 2 + 2);
    taken.push([x, end]);
  }

  /** @param {Heard} heard  the chunk at the cursor */
  cursor(heard) {
    const begin = Math.round(this.x(heard.at));
    const end = Math.round(this.x(heard.at + heard.end - heard.start));
    this.context.strokeStyle = this.colour('--ink');
    this.context.strokeRect(begin - 0.5, 0.5, Math.max(2, end - begin), this.bottom - 1);
  }

  /**
   * Shorten a text to a width.
   * @param {string} text
   * @param {number} width
   */
  fit(text, width) {
    const {context} = this;
    if (context.measureText(text).width <= width) return text;
    let short = text;
    while (short && context.measureText(short + '\u2026').width > width) short = short.slice(0, -1);
    return short.trimEnd() + '\u2026';
  }
}
