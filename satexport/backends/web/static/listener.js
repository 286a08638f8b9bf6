/** Listening: the microphone's stream, and what can happen to it on the way. */

import {Microphone} from './microphone.js';

const SILENCE = 6;  // s of digital silence after which the reader is told
const HOPELESS = 60;  // s behind at which listening ends

/** @typedef {import('./satexport.js').Model} Model */
/** @typedef {import('./microphone.js').Level} Level */
/** @typedef {import('./notices.js').Notice} Notice */
/**
 * @typedef {object} Hooks
 * @property {(chunk: import('./satexport.js').Chunk) => void} onScores
 * @property {(level: Level, seconds: number) => void} onLevel  seconds: captured so far
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
      onError: (error) => this.hooks.onBroken({title: 'Listening stopped.', text: `${error.message} Press Start listening again; if it happens again, reload the page.`}),
    });
    track.onended = () => this.hooks.onBroken({title: 'The microphone is gone.', text: 'It was unplugged, switched off, or its permission was withdrawn. Plug it in, and press Start listening again. What was heard is kept.'});
    track.onmute = () => this.hooks.onNotice('muted', {kind: 'note', title: 'The microphone is muted.', text: 'The system or the device gives no sound. Switch it on there; listening goes on by itself.'});
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
      for (const key of ['muted', 'paused', 'behind', 'lost', 'silence']) this.hooks.onNotice(key, null);
    }
  }

  onState() {
    const context = this.microphone?.context;
    if (!context || context.state === 'closed') return;
    const running = context.state === 'running';
    this.hooks.onNotice('paused', running ? null : {
      kind: 'note', title: 'The browser paused the microphone.',
      text: 'A call, the lock screen or another program took it. Sound until it goes on is not heard. Press anywhere on this page to go on, or Stop.',
    });
    if (!running) document.addEventListener('pointerdown', () => context.resume().catch(() => {}), {once: true});
  }

  /** @param {Level} level */
  onLevel(level) {
    const samples = level.captured - this.captured;
    this.captured = level.captured;
    this.quiet = level.peak > 0 ? 0 : this.quiet + samples;
    this.hooks.onLevel(level, level.captured / this.rate);
    this.hooks.onNotice('silence', this.quiet < SILENCE * this.rate ? null : {
      kind: 'note', title: 'Only digital silence arrives.',
      text: 'The microphone may be muted by a switch or in the system settings, or another one may be chosen.',
    });
    if (level.lost > 0) {
      this.hooks.onNotice('lost', {kind: 'note', title: `${(level.lost / this.rate).toFixed(1)} s of sound were lost.`, text: 'The browser left them out because this device was too busy. Close other programs or tabs.'});
    }
    this.checkSpeed();
  }

  checkSpeed() {
    const behind = this.stream?.behind ?? 0;
    if (behind > HOPELESS) {
      this.hooks.onBroken({title: 'This device is too slow to listen.', text: `It was ${Math.round(behind)} s behind. Close other programs or tabs, or use a smaller model. Audio files can still be opened: they may take their time.`});
    } else {
      const steps = 5 * Math.floor(behind / 5);  // does not change, and is not read aloud, at every message
      this.hooks.onNotice('behind', behind < 3 * this.hop + 2 ? null : {kind: 'note', title: `This device is more than ${steps} s behind.`, text: 'Nothing is lost yet. Close other programs or tabs if it does not catch up.'});
    }
  }
}
