/** What the page does with a loaded model: it listens, reads files, or rests; one at a time. */

import {FileError} from './decode.js';
import {clock, find} from './dom.js';
import {Listener} from './listener.js';
import {Meter} from './meter.js';
import {microphones} from './microphone.js';
import {readFile} from './reader.js';
import {SatexportError} from './satexport.js';
import {messageOf, notRead, readWith, refusal} from './words.js';

/** @typedef {import('./satexport.js').Model} Model */

export class Work {
  /**
   * @param {object} parts
   * @param {Model} parts.model
   * @param {import('./view.js').View} parts.view
   * @param {import('./status.js').Status} parts.status
   * @param {import('./notices.js').Notices} parts.notices
   * @param {string} parts.capture  URL of capture.js
   */
  constructor({model, view, status, notices, capture}) {
    this.model = model;
    this.view = view;
    this.status = status;
    this.notices = notices;
    this.capture = capture;
    this.meter = new Meter(find('level', HTMLElement), find('meter', HTMLElement), find('level-text', HTMLElement));
    this.device = find('device', HTMLSelectElement);
    /** @type {File[]} that wait for their turn */
    this.queue = [];
    /** @type {(() => void | Promise<void>) | null}  ends what is being done */
    this.stop = null;
    status.button.addEventListener('click', () => void (this.stop ? this.stop() : this.listen()));
    this.device.addEventListener('change', () => void this.changeDevice());
    navigator.mediaDevices?.addEventListener('devicechange', () => {
      if (this.listener) void this.showDevices(this.listener.deviceId);
    });
  }

  /**
   * Read files as soon as possible; the microphone stops for them.
   * @param {File[]} files
   */
  take(files) {
    this.queue.push(...files);
    if (this.status.state === 'listening') void this.stop?.();
    else if (this.status.state === 'ready') this.rest();
  }

  /** Wait for the next thing to do. */
  rest() {
    this.stop = null;
    this.status.set('ready', 'Ready');
    if (this.queue.length) void this.read();
  }

  async listen() {
    this.notices.clear('microphone', 'lost');
    this.status.set('asking', 'Waiting for the microphone');
    /** @type {{source?: import('./history.js').Source}} */
    const session = {};
    const listener = this.makeListener(session);
    try {
      await listener.start(this.device.value, this.capture);
    } catch (error) {
      this.notices.show('microphone', refusal(error));
      await listener.stop().catch(() => {});
      this.rest();
      return;
    }
    session.source = this.view.begin('microphone', true);
    this.listener = listener;
    this.stop = () => this.endListening(listener);
    this.meter.show(true);
    this.status.set('listening', 'Listening');
    await this.showDevices(listener.deviceId);
    if (this.queue.length) void this.stop?.();
  }

  /** @param {{source?: import('./history.js').Source}} session  which begins when the microphone is there */
  makeListener(session) {
    return new Listener(this.model, {
      onScores: (chunk) => { if (session.source) this.view.add(session.source, chunk); },
      onLevel: (level, captured, lost) => {
        this.meter.set(level, captured);
        if (session.source) session.source.lost = lost;
        if (this.status.state === 'listening') this.status.set('listening', `Listening, ${clock(captured)}`);
      },
      onNotice: (key, notice) => notice ? this.notices.show(key, notice) : this.notices.clear(key),
      onBroken: (notice) => {
        this.notices.show('microphone', notice);
        void this.stop?.();
      },
    });
  }

  /** @param {Listener} listener */
  async endListening(listener) {
    this.stop = null;
    this.listener = undefined;
    this.status.set('asking', 'Scoring the last chunk');
    try {
      await listener.stop();
    } catch (error) {
      this.notices.show('microphone', {title: 'The last chunk was not scored.', text: messageOf(error)});
    }
    this.meter.show(false);
    this.rest();
  }

  async changeDevice() {
    if (!this.listener) return;
    await this.stop?.();
    if (this.status.state === 'ready') await this.listen();
  }

  /**
   * Offer the microphones if there are several.
   * @param {string} current  deviceId
   */
  async showDevices(current) {
    const found = await microphones();
    this.device.replaceChildren(...found.map(({deviceId, label}) =>
      new Option(label, deviceId, false, deviceId === current)));
    find('device-field', HTMLElement).hidden = found.length < 2;
  }

  /** Read the files that wait, one after the other. */
  async read() {
    const control = new AbortController();
    this.stop = () => {
      this.queue.length = 0;
      control.abort();
    };
    for (let number = 1, file = this.queue.shift(); file; number++, file = this.queue.shift()) {
      const total = number + this.queue.length;
      const words = `${total > 1 ? `File ${number} of ${total}: ` : 'Reading '}${file.name}`;
      this.status.set('reading', words);
      await this.readOne(file, control.signal, (share) =>
        this.status.set('reading', `${words}, ${Math.round(100 * share)} %`, share));
    }
    this.rest();
  }

  /**
   * @param {File} file
   * @param {AbortSignal} signal
   * @param {(share: number) => void} onProgress
   */
  async readOne(file, signal, onProgress) {
    const source = this.view.begin(file.name, false);
    const key = `file ${file.name}`;
    let chunks = 0;
    try {
      const notes = await readFile(this.model, file, {signal, onProgress, onScores: (chunk) => {
        chunks++;
        this.view.add(source, chunk);
      }});
      if (notes.length) this.notices.show(key, readWith(file.name, notes));
      else this.notices.clear(key);
    } catch (error) {
      const known = error instanceof FileError || error instanceof SatexportError;
      const reason = messageOf(error) + (known ? '' : ' Reload the page, and try again.');
      this.notices.show(key, notRead(file.name, chunks > 0, reason));
    }
  }
}
