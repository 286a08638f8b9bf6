/** One stream of audio: the only object that holds a cache or earlier audio. It runs in the Worker. */

import {SatexportError} from './errors.js';
import {Resampler} from './resample.js';
import {checkRate, checkSamples} from './samples.js';

/** @typedef {import('./files.js').Contract} Contract */
/** @typedef {unknown} Cache the caches of a stream between two steps; only a Step knows what is in it */
/**
 * @typedef {{scores: Float32Array<ArrayBuffer>, embedding: Float32Array<ArrayBuffer> | null, cache: Cache,
 *   stepMs: number}} StepResult
 */

/**
 * The scores of one chunk.
 * @typedef {object} Chunk
 * @property {number} index of the chunk in the stream, from 0
 * @property {number} start of the chunk in seconds of the stream
 * @property {number} end of the chunk in seconds of the stream
 * @property {Float32Array<ArrayBuffer>} scores one in (0, 1) for each label, independent of each other
 * @property {Float32Array<ArrayBuffer> | null} embedding null if the bundle has none
 * @property {number} stepMs milliseconds that the model took
 */

/**
 * A run of the model on one window. It changes no argument, and leaves the cache usable if it fails.
 * @typedef {object} Step
 * @property {() => Cache} initialCache
 * @property {(window: Float32Array<ArrayBuffer>, cache: Cache) => Promise<StepResult>} run
 */

const QUIETEST = 1e-11;   // quieter samples become 0: their squares are subnormal numbers, which are slow on many CPUs

export class AudioStream {
  #step;
  #contract;
  #history;      // earlier samples that a step takes besides the new ones
  #rate = 0;     // Hz of what is fed; 0: not known yet
  #index = 0;    // of the next chunk
  /** @type {Resampler | null} */
  #resampler = null;
  /** @type {Queue} */
  #samples;
  /** @type {Cache} */
  #cache;
  #closed = false;

  /**
   * @param {Step} step
   * @param {Contract} contract
   */
  constructor(step, contract) {
    this.#step = step;
    this.#contract = contract;
    this.#history = contract.window_samples - contract.hop_samples;
    this.#samples = new Queue();
    this.reset();
  }

  /** Restart from silence, and drop the waiting samples. */
  reset() {
    this.#rate = this.#index = 0;
    this.#resampler = null;
    this.#samples = new Queue();
    this.#samples.push(new Float32Array(this.#history));
    this.#cache = this.#step.initialCache();
  }

  /** Score nothing more: a call that is in work ends with SatexportError('use') after its current step. */
  close() {
    this.#closed = true;
  }

  /** Samples at the contract's rate that wait for the rest of their chunk, or for a retry after a failed step. */
  get waiting() {
    return this.#samples.length - this.#history;
  }

  /** Seconds of audio that were fed and are not scored. */
  get behind() {
    return (this.waiting + (this.#resampler?.waiting ?? 0)) / this.#contract.sample_rate;
  }

  /**
   * Add samples, and score every completed chunk. If a step fails, its error is thrown and no sample is lost: the next
   * call tries the chunk again. Throws SatexportError('audio') and leaves the stream unchanged if they are not audio.
   * @param {Float32Array} samples mono, in [-1, 1]
   * @param {number} rate Hz
   * @param {(chunk: Chunk) => void} onChunk told each chunk as soon as it is scored
   */
  async feed(samples, rate, onChunk) {
    checkSamples(samples);
    checkRate(rate);
    if (this.#rate && rate !== this.#rate) {
      throw new SatexportError('audio', `the samples are at ${rate} Hz, those before were at ${this.#rate} Hz: expected ` +
        'one rate. The stream was not changed; reset it before you feed another sound.');
    }
    this.#rate = rate;
    this.#resampler ??= new Resampler(rate, this.#contract.sample_rate);
    this.#samples.push(this.#resampler.process(samples));
    await this.#score(onChunk);
  }

  /**
   * Score the waiting samples, padded with zeros to whole chunks: one chunk, or none if no samples wait.
   * @param {(chunk: Chunk) => void} onChunk
   */
  async flush(onChunk) {
    if (this.#resampler) this.#samples.push(this.#resampler.flush());
    this.#resampler = null;
    const hop = this.#contract.hop_samples;
    this.#samples.push(new Float32Array((hop - this.waiting % hop) % hop));
    await this.#score(onChunk);
  }

  /**
   * Run the model on one window after what was scored before; waiting samples keep waiting.
   * @param {Float32Array} window exactly `contract.window_samples` samples at the contract's rate
   * @returns {Promise<Chunk>}
   */
  async step(window) {
    checkSamples(window);
    if (window.length !== this.#contract.window_samples) {
      throw new SatexportError('audio', `the window has ${window.length} samples, expected ` +
        `${this.#contract.window_samples}. The stream was not changed.`);
    }
    return this.#run(Float32Array.from(window));
  }

  /** @param {(chunk: Chunk) => void} onChunk */
  async #score(onChunk) {
    while (this.waiting >= this.#contract.hop_samples) {
      if (this.#closed) throw new SatexportError('use', 'the stream was closed before all was scored.');
      const chunk = await this.#run(this.#samples.first(this.#contract.window_samples));
      this.#samples.drop(this.#contract.hop_samples);  // only now: if the step failed, its chunk still waits
      onChunk(chunk);
    }
  }

  /**
   * @param {Float32Array<ArrayBuffer>} window which is changed
   * @returns {Promise<Chunk>}
   */
  async #run(window) {
    window.forEach((sample, at) => { if (Math.abs(sample) < QUIETEST) window[at] = 0; });
    const {scores, embedding, cache, stepMs} = await this.#step.run(window, this.#cache);
    this.#cache = cache;
    const index = this.#index++, seconds = this.#contract.hop_samples / this.#contract.sample_rate;
    return {index, start: index * seconds, end: (index + 1) * seconds, scores, embedding, stepMs};
  }
}

/** Samples that wait, first in, first out. */
class Queue {
  #buffer = new Float32Array(0);
  #begin = 0;
  #end = 0;

  get length() {
    return this.#end - this.#begin;
  }

  /** @param {Float32Array} samples */
  push(samples) {
    if (this.#end + samples.length > this.#buffer.length) {
      const buffer = new Float32Array(2 * this.length + samples.length);
      buffer.set(this.#buffer.subarray(this.#begin, this.#end));
      [this.#buffer, this.#begin, this.#end] = [buffer, 0, this.length];
    }
    this.#buffer.set(samples, this.#end);
    this.#end += samples.length;
  }

  /** A copy of the first samples. @param {number} count */
  first(count) {
    return this.#buffer.slice(this.#begin, this.#begin + count);
  }

  /** @param {number} count */
  drop(count) {
    this.#begin += count;
  }
}
