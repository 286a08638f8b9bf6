/** What the page does now: shown at its head, by its main button, and said to screen readers. */

import {find} from './dom.js';
import {checkMicrophone} from './microphone.js';

/** @typedef {'loading' | 'ready' | 'asking' | 'listening' | 'reading' | 'failed'} State */


export class Status {
  /** @param {(sentence: string) => void} say */
  constructor(say) {
    this.say = say;
    /** @type {State} */
    this.state = 'loading';
    this.button = find('listen', HTMLButtonElement);
    this.place = find('state', HTMLElement);
    this.text = find('state-text', HTMLElement);
    this.progress = find('progress', HTMLProgressElement);
  }

  /**
   * @param {State} state
   * @param {string} words
   * @param {number} [share]  of the work that is done, in [0, 1]
   */
  set(state, words, share = 0) {
    if (this.state !== state) this.say(words);
    this.state = state;
    this.place.dataset['state'] = state;
    this.text.textContent = words;
    this.progress.value = share;
    const busy = state === 'listening' || state === 'reading';
    const label = !busy ? 'Start listening' : state === 'listening' ? 'Stop listening' : 'Stop reading';
    if (this.button.textContent !== label) this.button.textContent = label;
    this.button.toggleAttribute('data-on', busy);
    this.button.disabled = !busy && (state !== 'ready' || checkMicrophone() !== null);
  }
}
