/** Everything that shows what was heard: tags, timeline, table, announcements, saved files. */

import {find, span} from './dom.js';
import {above, History} from './history.js';
import {save, toCsv, toJson} from './record.js';
import {Table} from './table.js';
import {TagList} from './tags.js';
import {Timeline} from './timeline.js';

/** @typedef {import('./satexport.js').Model} Model */
/** @typedef {import('./satexport.js').Chunk} Chunk */
/** @typedef {import('./history.js').Source} Source */

const SAVE = {csv: 'text/csv', json: 'application/json'};

export class View {
  /**
   * @param {Model} model
   * @param {import('./record.js').Facts} facts
   * @param {import('./announce.js').Announcer} announcer
   */
  constructor(model, facts, announcer) {
    this.model = model;
    this.facts = facts;
    this.announcer = announcer;
    this.history = new History();
    this.frame = 0;
    /** @type {Float32Array | null}  scores that are shown next: of the last chunk, or the highest of a file */
    this.latest = null;
    this.title = find('now-title', HTMLElement);
    this.tags = new TagList(find('tags', HTMLOListElement), model.labels);
    this.timeline = new Timeline(find('picture', HTMLCanvasElement), find('timeline', HTMLElement),
      find('readout', HTMLElement), this.history, model.labels);
    this.table = new Table(find('as-table', HTMLDetailsElement), find('rows', HTMLTableSectionElement), this.history,
      model.labels);
    this.slider = find('threshold', HTMLInputElement);
    this.threshold = Number(this.slider.value);
    this.slider.addEventListener('input', () => this.readThreshold());
    for (const kind of /** @type {('csv' | 'json')[]} */ (['csv', 'json'])) {
      find(kind, HTMLButtonElement).addEventListener('click', () => this.save(kind));
    }
    find('clear', HTMLButtonElement).addEventListener('click', () => this.clear());
    document.addEventListener('visibilitychange', () => this.draw());
    this.readThreshold();
    this.update();
  }

  /**
   * A new source, at the end of the timeline.
   * @param {string} name
   * @param {boolean} live
   */
  begin(name, live) {
    this.announcer.forget();
    this.showNothing(live ? 'Heard now' : `Heard in ${name}`);
    return this.history.begin(name, live);
  }

  /**
   * @param {Source} source
   * @param {Chunk} chunk
   */
  add(source, chunk) {
    const heard = this.history.add(source, chunk);
    const labels = above(heard, this.threshold).map(([index]) => this.model.labels[index] ?? '');
    this.announcer.hear(labels, heard.at);
    this.latest = source.live || !this.latest ? chunk.scores.slice() : highest(this.latest, chunk.scores);
    this.table.add(heard);
    this.update();
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.latest) this.tags.show(this.latest);
    this.timeline.draw();
  }

  /** What depends on whether there is anything, and the words about what is kept. */
  update() {
    const some = this.history.chunks.length > 0;
    for (const id of ['csv', 'json', 'clear']) {
      const button = find(id, HTMLButtonElement);
      if (button.disabled === some) button.disabled = !some;
    }
    find('nothing', HTMLElement).hidden = some;
    find('nothing-now', HTMLElement).hidden = this.latest !== null;
    const {hop_samples: hop, sample_rate: rate} = this.model.contract;
    const bound = span(this.history.limit * hop / rate);
    const dropped = this.history.dropped ? ` ${span(this.history.dropped * hop / rate)} before that were dropped.` : '';
    const words = `This page keeps the last ${bound} until it is closed; the files that you save have the sounds that `
      + `reach the threshold.${dropped}`;
    const place = find('bound', HTMLElement);
    if (place.textContent !== words) place.textContent = words;
  }

  readThreshold() {
    this.threshold = Number(this.slider.value);
    find('threshold-text', HTMLOutputElement).textContent = this.threshold.toFixed(2);
    this.tags.setThreshold(this.threshold);
    this.timeline.setThreshold(this.threshold);
    this.table.setThreshold(this.threshold);
  }

  /** @param {'csv' | 'json'} kind */
  save(kind) {
    const {history, threshold, model: {labels}} = this;
    const text = kind === 'csv' ? toCsv(history, labels, threshold) : toJson(history, labels, threshold, this.facts);
    const time = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
    save(`heard-${time}.${kind}`, SAVE[kind], text);
  }

  clear() {
    this.history.clear();
    this.timeline.clear();
    this.table.rebuild();
    this.announcer.forget();
    this.announcer.say('What was heard was cleared.');
    this.showNothing('Heard now');
  }

  /** @param {string} title  of the tags, of which there are none yet */
  showNothing(title) {
    this.latest = null;
    this.title.textContent = title;
    this.tags.clear();
    this.update();
  }
}

/**
 * The higher score of each class.
 * @param {Float32Array} some
 * @param {Float32Array} others
 */
const highest = (some, others) => some.map((score, index) => Math.max(score, others[index] ?? 0));
