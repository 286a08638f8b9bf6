/** The microphone at its own sample rate, without the browser's processing, straight to a stream in the Worker. */

import {NO_MICROPHONE_IN_BROWSER, NO_WORKLET, PLAIN_HTTP} from './words.js';

/**
 * @typedef {object} Level  of a block of samples
 * @property {number} peak  in [0, 1], more if it clips
 * @property {number} rms
 * @property {number} captured  samples so far
 * @property {number} lost  samples so far that the browser left out
 */
/** @typedef {import('./words.js').Notice} Notice */

/**
 * Whether this page may ask for a microphone at all; if not, why and what to do.
 * @returns {Notice | null}
 */
export function checkMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) return globalThis.isSecureContext ? NO_MICROPHONE_IN_BROWSER : PLAIN_HTTP;
  return typeof AudioWorkletNode === 'undefined' ? NO_WORKLET : null;
}

export class Microphone {
  /**
   * Ask for the microphone and open it; nothing is captured before `connect`.
   * @param {string} deviceId  "": the system's choice
   * @param {string} capture  URL of capture.js
   * @throws {DOMException}  see `refusal` of words.js
   */
  static async open(deviceId, capture) {
    const media = await navigator.mediaDevices.getUserMedia({audio: {
      echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1,
      ...(deviceId && {deviceId: {exact: deviceId}}),
    }});
    /** @type {AudioContext | null} */
    let context = null;
    try {
      const connected = await connect(media);
      context = connected.context;
      await context.audioWorklet.addModule(capture);
      const node = new AudioWorkletNode(context, 'capture', {
        numberOfInputs: 1, numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit',
      });
      if (context.state === 'suspended') await context.resume();
      return new Microphone(media, context, connected.source, node);
    } catch (error) {
      for (const track of media.getTracks()) track.stop();
      await context?.close();
      throw error;
    }
  }

  /**
   * @param {MediaStream} media
   * @param {AudioContext} context
   * @param {MediaStreamAudioSourceNode} source
   * @param {AudioWorkletNode} node
   */
  constructor(media, context, source, node) {
    this.media = media;
    this.context = context;
    this.source = source;
    this.node = node;
    /** @type {(() => void) | null}  told after the last block */
    this.ended = null;
  }

  get rate() { return this.context.sampleRate; }
  get track() { return /** @type {MediaStreamTrack} */ (this.media.getAudioTracks()[0]); }

  /**
   * Begin to capture.
   * @param {MessagePort} samples  where the blocks of samples go
   * @param {(level: Level) => void} onLevel
   */
  connect(samples, onLevel) {
    this.node.port.onmessage = ({data}) => data.ended ? this.ended?.() : onLevel(data);
    this.node.port.postMessage({samples}, [samples]);
    this.source.connect(this.node);
  }

  /**
   * Stop, and release the device. Returns after the last block was passed on.
   * @returns {Promise<void>}
   */
  async stop() {
    const ended = new Promise((resolve) => { this.ended = () => resolve(undefined); });
    this.node.port.postMessage({end: true});
    if (this.context.state === 'running') await Promise.race([ended, wait(500)]);
    this.source.disconnect();
    for (const track of this.media.getTracks()) track.stop();
    this.node.port.onmessage = null;
    await this.context.close();
  }
}

/**
 * The microphone in a context at the track's own rate, so that the browser does not resample. Some browsers refuse
 * another rate than their own: then the context has that, and the browser has resampled.
 * @param {MediaStream} media
 */
async function connect(media) {
  const sampleRate = media.getAudioTracks()[0]?.getSettings().sampleRate;
  if (sampleRate) {
    try {
      return await connectAt(media, {sampleRate});
    } catch {
      // at the browser's own rate, then
    }
  }
  return connectAt(media, {});
}

/** @param {MediaStream} media @param {AudioContextOptions} options */
async function connectAt(media, options) {
  const context = new AudioContext(options);
  try {
    return {context, source: context.createMediaStreamSource(media)};
  } catch (error) {
    await context.close();
    throw error;
  }
}

/** @param {number} ms */
const wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/**
 * The microphones that can be chosen; their names are known only after permission.
 * @returns {Promise<MediaDeviceInfo[]>}
 */
export async function microphones() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === 'audioinput' && device.deviceId && device.label);
}
