/**
 * Scores of sounds in audio streams, by the bundle of satexport in this folder. Nothing is sent anywhere: the model runs
 * in a Worker of this page.
 *
 *     import {load, top} from './satexport.js';
 *     const model = await load();                                  // the folder of this file
 *     const stream = model.stream({onScores: ({end, scores}) => console.log(end, top(scores, model.labels, 3))});
 *     await stream.feed(samples, 48000);                           // mono, any length, any whole rate from 8 to 192 kHz
 */

import {checkBrowser} from './browser.js';
import {SatexportError} from './errors.js';
import {Folder} from './files.js';
import {Link} from './link.js';
import {checkArray, checkRate} from './samples.js';

export {SatexportError};

/** @typedef {import('./stream.js').Chunk} Chunk */
/** @typedef {import('./prove.js').Proof} Proof */
/** @typedef {import('./files.js').Manifest} Manifest */
/** @typedef {import('./files.js').Contract} Contract */
/** @typedef {{onScores?: (chunk: Chunk) => void, onError?: (error: SatexportError) => void}} StreamOptions */

/** The modules that the Worker and this one consist of; all are listed in bundle.json. */
const CODE = ['browser.js', 'errors.js', 'files.js', 'link.js', 'npy.js', 'prove.js', 'resample.js', 'samples.js',
  'satexport.js', 'session.js', 'sha256.js', 'stream.js', 'worker.js'];

/**
 * Load a bundle: download its files, check each against bundle.json, and start the model.
 *
 * Throws SatexportError: 'browser' if this browser lacks what it needs, 'bundle' if a file is missing or modified or the
 * graph cannot be loaded, 'use' for options that are not possible.
 * @param {string | URL} [url] the bundle's folder; the default is the folder of this file
 * @param {{threads?: number, onProgress?: (loadedBytes: number, totalBytes: number) => void}} [options] more than one
 *   thread needs a page that is cross-origin isolated; otherwise one is used. The bytes are those of unpacked files.
 * @returns {Promise<Model>}
 */
export async function load(url = new URL('.', import.meta.url), {threads = 1, onProgress} = {}) {
  const started = performance.now();
  const here = new URL('.', import.meta.url), base = folderOf(url);
  if (!Number.isInteger(threads) || threads < 1) {
    throw new SatexportError('use', `threads is ${threads}, expected a whole number from 1.`);
  }
  checkBrowser();
  const folder = await Folder.open(base);
  if (base.href === here.href) await folder.checkCode(CODE);
  const link = new Link(new URL('worker.js', here));
  try {
    const request = {type: 'load', url: base.href, manifest: folder.manifest, threads};
    const facts = await link.ask(request, [], onProgress);
    return new Model(link, folder.manifest, {...facts, loadSeconds: (performance.now() - started) / 1000});
  } catch (error) {
    link.close();
    throw error;
  }
}

/**
 * The labels with the highest scores, highest first.
 * @param {ArrayLike<number>} scores
 * @param {string[]} labels
 * @param {number} n
 * @returns {{label: string, score: number, index: number}[]}
 */
export function top(scores, labels, n) {
  return labels.map((label, index) => ({label, score: scores[index], index}))
    .sort((a, b) => b.score - a.score).slice(0, n);
}

/** A loaded bundle. */
export class Model {
  #link;

  /**
   * Made by `load`.
   * @param {Link} link
   * @param {Manifest} manifest
   * @param {{labels: string[], threads: number, loadSeconds: number, downloadSeconds: number}} facts
   */
  constructor(link, manifest, facts) {
    this.#link = link;
    this.manifest = manifest;
    this.labels = facts.labels;
    this.threads = facts.threads;
    this.loadSeconds = facts.loadSeconds;          // download, check and start
    this.downloadSeconds = facts.downloadSeconds;  // download and check
  }

  /** @returns {Contract} */
  get contract() {
    return this.manifest.contract;
  }

  /** Bytes of the memory of WebAssembly, which holds the model. */
  memoryBytes() {
    return this.#link.memory;
  }

  /**
   * A new stream, which starts from silence. `onScores` is told each chunk as it comes, `onError` what went wrong with
   * samples that came through a port.
   * @param {StreamOptions} [options]
   */
  stream(options = {}) {
    return new Stream(this.#link, this.contract.sample_rate, options);
  }

  /**
   * Run the bundle's golden chunks in this browser and compare the scores with PyTorch's. Throws SatexportError.
   * @param {(done: number, total: number) => void} [onProgress] told chunks
   * @returns {Promise<Proof>}
   */
  prove(onProgress) {
    return this.#link.ask({type: 'prove'}, [], onProgress);
  }

  /** End the Worker, and with it all streams; what was asked for and not answered is rejected. */
  close() {
    this.#link.close();
  }
}

/** One stream of audio. Its calls are carried out in the order in which they are made. */
class Stream {
  #link;
  #number;
  #rate;
  /** @type {Chunk[]} chunks before a step that failed, which no call has returned yet */
  #kept = [];
  #onError;
  #sent = 0;      // s of audio of `feed`, in all
  /** What the Worker said last. @type {import('./worker.js').StreamProgress} */
  #progress = {fed: 0, behind: 0};

  /**
   * @param {Link} link
   * @param {number} rate Hz
   * @param {StreamOptions} options
   */
  constructor(link, rate, {onScores, onError}) {
    this.#link = link;
    this.#rate = rate;
    this.#onError = (/** @type {SatexportError} */ error) => onError?.(error);
    this.#number = link.open({
      chunk: (chunk) => onScores?.(chunk),
      progress: (progress) => { this.#progress = progress; },
      failed: this.#onError,
    });
  }

  /** Seconds of audio that the stream was fed and that are not scored yet. */
  get behind() {
    return this.#progress.behind + (this.#sent - this.#progress.fed);
  }

  /**
   * Add samples, and get the chunks that they complete. Each call takes a message to the Worker and one back, so feed
   * 0.1 s or more at a time, and small blocks through a `port`. Throws SatexportError: 'audio' for NaN, infinity, an amplitude
   * above 8, or a rate that is not possible or that changed without a reset; the stream is then unchanged. 'run' if a
   * step fails: no sample is lost, the next call tries the chunk again and also returns the chunks before it.
   * @param {Float32Array} samples mono, in [-1, 1], any length
   * @param {number} [rate] Hz, whole, 8000 to 192000; the default is the contract's
   * @returns {Promise<Chunk[]>}
   */
  async feed(samples, rate = this.#rate) {
    checkArray(samples);
    checkRate(rate);
    const copy = samples.slice();
    this.#sent += samples.length / rate;
    return this.#chunksOf({type: 'feed', samples: copy, rate}, [copy.buffer]);
  }

  /**
   * A port for blocks of samples (Float32Array) at a rate. Pass it on to an AudioWorklet, and its blocks reach the
   * Worker without the main thread; `onScores` and `onError` of the stream are told what they give. `onError` is also
   * told if the stream or the model is closed, or if the Worker ends.
   * @param {number} rate Hz, whole, 8000 to 192000
   * @returns {MessagePort}
   */
  port(rate) {
    checkRate(rate);
    const {port1, port2} = new MessageChannel();
    this.#link.ask({type: 'port', stream: this.#number, port: port2, rate}, [port2]).catch(this.#onError);
    return port1;
  }

  /**
   * Run the model on one window, without resampling; samples that wait keep waiting. It serves proofs.
   * @param {Float32Array} window exactly `contract.window_samples` samples
   * @returns {Promise<Chunk>}
   */
  async step(window) {
    checkArray(window);
    const copy = window.slice();
    return this.#link.ask({type: 'step', stream: this.#number, window: copy}, [copy.buffer]);
  }

  /**
   * Score the waiting samples, padded with zeros to a whole chunk; none if no samples wait. Throws as `feed` does.
   * @returns {Promise<Chunk[]>}
   */
  async flush() {
    return this.#chunksOf({type: 'flush'});
  }

  /** Restart from silence, and drop the waiting samples. */
  async reset() {
    await this.#link.ask({type: 'reset', stream: this.#number});
    this.#kept = [];
  }

  /** Free the stream's cache, and close its ports. */
  close() {
    this.#link.ask({type: 'close', stream: this.#number}).catch(() => {});
    this.#link.forget(this.#number);
  }

  /**
   * @param {object} request
   * @param {Transferable[]} [transferred]
   */
  async #chunksOf(request, transferred) {
    /** @type {Chunk[]} */
    const chunks = [];
    try {
      await this.#link.ask({...request, stream: this.#number}, transferred, undefined, chunks);
    } catch (error) {
      this.#kept.push(...chunks);
      throw error;
    }
    return [...this.#kept.splice(0), ...chunks];
  }
}

/** The URL of a folder, with a slash at its end. @param {string | URL} url */
function folderOf(url) {
  const folder = new URL(url, globalThis.document?.baseURI ?? import.meta.url);
  if (!folder.pathname.endsWith('/')) folder.pathname += '/';
  folder.search = folder.hash = '';
  return folder;
}
