/** The Worker: it downloads the model, runs it, and holds the streams and their caches. satexport.js talks to it. */

import {SatexportError, toPlain} from './errors.js';
import {Folder} from './files.js';
import {prove} from './prove.js';
import {Session} from './session.js';
import {AudioStream} from './stream.js';

/** @typedef {import('./errors.js').PlainError} PlainError */
/** @typedef {import('./stream.js').Chunk} Chunk */
/** @typedef {import('./stream.js').Step} Step */

/**
 * What satexport.js asks for. `id` is repeated in the answer; `stream` is the number of a stream.
 * @typedef {{id: number} & (
 *   {type: 'load', url: string, manifest: import('./files.js').Manifest, threads: number} |
 *   {type: 'prove'} |
 *   {type: 'open' | 'flush' | 'reset' | 'close', stream: number} |
 *   {type: 'feed', stream: number, samples: Float32Array, rate: number} |
 *   {type: 'step', stream: number, window: Float32Array} |
 *   {type: 'port', stream: number, rate: number, port: MessagePort})} Request
 */

/**
 * What the Worker answers: the result of a request or its error, and before that its chunks and its progress. `id` is
 * 0 for what came through a port. What regards a stream says how far it is.
 * @typedef {{id: number, memory: number, stream?: number, progress?: StreamProgress} & (
 *   {type: 'result', value: any} | {type: 'error', error: PlainError} | {type: 'progress', done: number, total: number} |
 *   {type: 'chunk', chunk: Chunk} | {type: 'taken'} | {type: 'failed', error: PlainError})} Answer
 */

/**
 * How far a stream is, in seconds of audio.
 * @typedef {object} StreamProgress
 * @property {number} fed  that `feed` has brought here, in all
 * @property {number} behind  that arrived here and is not scored yet
 */

const TELL_EVERY = 0.25;  // s of audio of a port between two messages about it

const scope = /** @type {WorkerScope} */ (/** @type {unknown} */ (globalThis));
/** @type {Folder} */
let folder;
/** @type {Session} */
let session;
/** @type {Map<number, Lane>} */
const lanes = new Map();

/** Steps of all streams, one at a time and in the order in which they were asked for. @type {Promise<unknown>} */
let lastStep = Promise.resolve();
/** @type {Step} */
const step = {
  initialCache: () => session.initialCache(),
  run: (window, cache) => {
    const run = lastStep.then(takeMessages).then(() => session.run(window, cache));
    lastStep = run.catch(() => {});
    return run;
  },
};

const {port1: sender, port2: receiver} = new MessageChannel();

/** Let the messages that have arrived be taken before the next step, which blocks the Worker. */
function takeMessages() {
  return new Promise((resolve) => {
    receiver.onmessage = resolve;
    sender.postMessage(null);
  });
}

/** A stream whose requests are answered one after the other. */
class Lane {
  /** @param {number} number */
  constructor(number) {
    this.number = number;
    this.stream = new AudioStream(step, folder.manifest.contract);
    /** @type {Promise<unknown>} */
    this.last = Promise.resolve();
    /** @type {MessagePort[]} */
    this.ports = [];
    this.fed = 0;                     // s of audio of `feed`, in all
    this.arrived = this.passedOn = 0; // s of audio that came here, and that the stream has taken or refused
  }

  /** @returns {StreamProgress} */
  get progress() {
    return {fed: this.fed, behind: this.arrived - this.passedOn + this.stream.behind};
  }

  /**
   * Feed the stream after everything that was asked for before.
   * @param {Float32Array} samples
   * @param {number} rate Hz
   * @param {(chunk: Chunk) => void} onChunk
   */
  feed(samples, rate, onChunk) {
    const seconds = samples instanceof Float32Array ? samples.length / rate : 0;
    this.arrived += seconds;
    return this.enqueue(() => {
      this.passedOn += seconds;
      return this.stream.feed(samples, rate, onChunk);
    });
  }

  /**
   * Do something after everything that was asked for before.
   * @template T
   * @param {() => T | Promise<T>} task
   * @returns {Promise<T>}
   */
  enqueue(task) {
    const done = this.last.then(task);
    this.last = done.catch(() => {});
    return done;
  }
}

scope.onmessage = (/** @type {MessageEvent<Request>} */ {data}) => {
  const lane = 'stream' in data ? lanes.get(data.stream) : undefined;
  answer(data).then((value) => send({id: data.id, type: 'result', value}, lane),
    (error) => send({id: data.id, type: 'error', error: toPlain(error)}, lane));
};

/** @param {Request} request */
async function answer(request) {
  switch (request.type) {
    case 'load': return load(request);
    case 'prove': return prove(folder, step, (done, total) => send({id: request.id, type: 'progress', done, total}));
    case 'open': return void lanes.set(request.stream, new Lane(request.stream));
  }
  const lane = laneOf(request.stream), {stream} = lane;
  const onChunk = chunkSender(lane, request.id);
  switch (request.type) {
    case 'feed': {
      const done = lane.feed(request.samples, request.rate, onChunk);
      lane.fed += request.samples.length / request.rate;
      send({id: request.id, type: 'taken'}, lane);
      return done;
    }
    case 'flush': return lane.enqueue(() => stream.flush(onChunk));
    case 'step': return lane.enqueue(() => stream.step(request.window));
    case 'reset': return lane.enqueue(() => stream.reset());
    case 'port': return listen(lane, request.port, request.rate);
    case 'close': {
      stream.close();
      lane.ports.forEach((port) => port.close());
      return void lanes.delete(request.stream);
    }
  }
}

/** @param {Request & {type: 'load'}} request */
async function load(request) {
  folder = new Folder(new URL(request.url), request.manifest);
  session = await Session.load(folder, request.threads,
    (done, total) => send({id: request.id, type: 'progress', done, total}));
  const {labels, threads, downloadSeconds} = session;
  return {labels, threads, downloadSeconds};
}

/**
 * Feed a stream from a port, whose messages are blocks of samples.
 * @param {Lane} lane
 * @param {MessagePort} port
 * @param {number} rate Hz
 */
function listen(lane, port, rate) {
  const onChunk = chunkSender(lane, 0);
  let told = 0;  // s of audio of which satexport.js knows
  lane.ports.push(port);
  port.onmessage = ({data}) => {
    lane.feed(data, rate, onChunk).catch((error) => send({id: 0, type: 'failed', error: toPlain(error)}, lane));
    if (lane.arrived < told + TELL_EVERY) return;
    told = lane.arrived;
    send({id: 0, type: 'taken'}, lane);
  };
}

/**
 * @param {Lane} lane
 * @param {number} id of the request
 * @returns {(chunk: Chunk) => void}
 */
function chunkSender(lane, id) {
  return (chunk) => {
    const arrays = [chunk.scores.buffer, ...chunk.embedding ? [chunk.embedding.buffer] : []];
    send({id, type: 'chunk', chunk}, lane, arrays);
  };
}

/** @param {number} number */
function laneOf(number) {
  const lane = lanes.get(number);
  if (!lane) throw new SatexportError('use', 'the stream is closed. Make another with model.stream().');
  return lane;
}

/**
 * @param {any} message an Answer without its memory
 * @param {Lane} [lane] that it regards
 * @param {ArrayBuffer[]} [transferred]
 */
function send(message, lane, transferred = []) {
  const about = lane && {stream: lane.number, progress: lane.progress};
  scope.postMessage({...message, ...about, memory: session?.memoryBytes ?? 0}, transferred);
}
