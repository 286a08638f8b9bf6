/** Notices at the top of the page: what happened and what to do. Each has a key; a new one replaces it. */

import {make} from './dom.js';

const MOST = 8;  // notices; the oldest goes

/** @typedef {import('./words.js').Notice} Notice */

export class Notices {
  /**
   * @param {HTMLElement} place
   * @param {(sentence: string) => void} say  for screen readers
   */
  constructor(place, say) {
    this.place = place;
    this.say = say;
    /** @type {Map<string, {box: HTMLElement, text: string}>} */
    this.shown = new Map();
  }

  /**
   * @param {string} key
   * @param {Notice} notice
   */
  show(key, notice) {
    const text = `${notice.title} ${notice.text}`;
    if (this.shown.get(key)?.text === text) return;
    const box = make('div', '', `notice ${notice.kind ?? 'error'}`);
    const words = make('div');
    words.append(make('strong', notice.title), make('p', notice.text));
    const close = make('button', 'Dismiss', 'quiet');
    close.type = 'button';
    close.setAttribute('aria-label', `Dismiss: ${notice.title}`);
    close.addEventListener('click', () => this.clear(key));
    box.append(words, close);
    const earlier = this.shown.get(key);
    if (earlier) earlier.box.replaceWith(box);
    else this.place.append(box);
    this.shown.set(key, {box, text});
    const [oldest] = this.shown.keys();
    if (this.shown.size > MOST && oldest) this.clear(oldest);
    this.say(text);
  }

  /** @param {string[]} keys */
  clear(...keys) {
    for (const key of keys) {
      this.shown.get(key)?.box.remove();
      this.shown.delete(key);
    }
  }
}
