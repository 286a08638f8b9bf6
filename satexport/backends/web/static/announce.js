/** The page's one live region: says what changed to a screen reader, at most one sentence every few seconds. */

import {make} from './dom.js';

const KEPT = 4;  // sentences
const PAUSE = 5;  // s of sound between two announcements of sounds
const FORGOTTEN = 20;  // s after which a sound is new again

export class Announcer {
  /** @param {HTMLElement} region  aria-live="polite" */
  constructor(region) {
    this.region = region;
    /** @type {Map<string, number>} */
    this.lastHeard = new Map();
    /** @type {string[]} */
    this.waiting = [];
    this.spoken = -Infinity;
  }

  /**
   * Say a sentence now: a change of state, or an error.
   * @param {string} sentence
   */
  say(sentence) {
    this.region.append(make('p', sentence));  // added, not replaced: what is not read yet stays
    while (this.region.children.length > KEPT) this.region.firstElementChild?.remove();
  }

  /**
   * Take the sounds of a chunk, and say those that were not heard for a while.
   * @param {readonly string[]} labels  that reached the threshold
   * @param {number} at  s on the timeline
   */
  hear(labels, at) {
    for (const label of labels) {
      const before = this.lastHeard.get(label) ?? -Infinity;
      if (at - before > FORGOTTEN && !this.waiting.includes(label)) this.waiting.push(label);
      this.lastHeard.set(label, at);
    }
    if (!this.waiting.length || at - this.spoken < PAUSE) return;
    this.say(`Heard: ${this.waiting.slice(0, 4).join('; ')}.`);
    this.waiting = [];
    this.spoken = at;
  }

  forget() {
    this.lastHeard.clear();
    this.waiting = [];
    this.spoken = -Infinity;
  }
}
