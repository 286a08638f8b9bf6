/** Listening: the microphone's stream, and what can happen to it on the way. */

import {Microphone} from './microphone.js';
import {behind, broken, lost, MUTED, ONLY_ZEROS, PAUSED, tooSlow, UNPLUGGED} from './words.js';

const SILENCE = 6;  // s of digital silence after which the reader is told
const NOTABLE = 0.1;  // s of lost sound
const HOPELESS = 60;  // s behind at which listening ends

/** @typedef {import('./satexport.js').Model} Model */
/** @typedef {import('./microphone.js').Level} Level */
/** @typedef {import('./words.js').Notice} Notice */
/**
 * @typedef {object} Hooks
 * @property {(chunk: import('./satexport.js').Chunk) => void} onScores
 * @property {(level: Level, captured: number, lost: number) => void} onLevel  s so far
 * @property {(key: string, notice: Notice | null) => void} onNotice  null: it no longer holds
 * @property {(notice: Notice) => void} onBroken  listening cannot go on
 */

export class Listener {
  /**
   * @param {Model} model
   * @param {Hooks} hooks
   */
  constructor(model, hooks) {
    this.model = model;
    this.hooks = hooks;
    this.quiet = 0;  // samples of digital silence
    this.captured = 0;
    this.hop = model.contract.hop_samples / model.contract.sample_rate;  // s
    this.resume = () => { this.microphone?.context.resume().catch(() => {}); };
  }

  /**
   * Ask for the microphone and listen.
   * @param {string} deviceId
   * @param {string} capture  URL of capture.js
   */
  async start(deviceId, capture) {
    this.microphone = await Microphone.open(deviceId, capture);
    const {context, track, rate} = this.microphone;
    this.stream = this.model.stream({
      onScores: (chunk) => this.hooks.onScores(chunk),
      onError: (error) => this.hooks.onBroken(broken(error)),
    });
    track.onended = () => this.hooks.onBroken(UNPLUGGED);
    track.onmute = () => this.hooks.onNotice('muted', MUTED);
    track.onunmute = () => this.hooks.onNotice('muted', null);
    context.onstatechange = () => this.onState();
    this.microphone.connect(this.stream.port(rate), (level) => this.onLevel(level));
  }

  get rate() { return this.microphone?.rate ?? 0; }
  get deviceId() { return this.microphone?.track.getSettings().deviceId ?? ''; }

  /** Stop, and score what was captured but not yet scored. */
  async stop() {
    if (this.microphone) {
      this.microphone.track.onended = null;
      this.microphone.context.onstatechange = null;
      await this.microphone.stop();
    }
    try {
      await this.stream?.flush();
    } finally {
      this.stream?.close();
      this.resumeByHand(false);
      for (const key of ['muted', 'paused', 'behind', 'silence']) this.hooks.onNotice(key, null);
    }
  }

  onState() {
    const context = this.microphone?.context;
    if (!context || context.state === 'closed') return;
    const running = context.state === 'running';
    this.hooks.onNotice('paused', running ? null : PAUSED);
    this.resumeByHand(!running);
  }

  /** @param {boolean} wanted  whether a press or a key resumes the microphone: browsers resume only then */
  resumeByHand(wanted) {
    for (const event of ['pointerdown', 'keydown']) {
      if (wanted) document.addEventListener(event, this.resume);
      else document.removeEventListener(event, this.resume);
    }
  }

  /** @param {Level} level */
  onLevel(level) {
    const samples = level.captured - this.captured;
    this.captured = level.captured;
    this.quiet = level.peak > 0 ? 0 : this.quiet + samples;
    this.hooks.onLevel(level, level.captured / this.rate, level.lost / this.rate);
    this.hooks.onNotice('silence', this.quiet < SILENCE * this.rate ? null : ONLY_ZEROS);
    if (level.lost >= NOTABLE * this.rate) this.hooks.onNotice('lost', lost(level.lost / this.rate));
    this.checkSpeed();
  }

  checkSpeed() {
    const seconds = this.stream?.behind ?? 0;
    if (seconds > HOPELESS) {
      this.hooks.onBroken(tooSlow(seconds));
    } else {
      const late = seconds > 3 * this.hop + 2;
      // in steps of 5 s, so that it does not change, and is not read aloud, with every message
      this.hooks.onNotice('behind', late ? behind(5 * Math.floor(seconds / 5)) : null);
    }
  }
}
