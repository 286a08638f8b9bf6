/**
 * PCM in a WAV file, read exactly and piece by piece, so that a file of any length fits into memory: 8, 16, 24 and 32
 * bit and floats of 32 and 64 bit, RIFF and RF64. Source: Microsoft's "Multiple channel audio data and WAVE files",
 * EBU Tech 3306 (RF64).
 */

import {textAt} from './containers.js';

const PIECE = 1 << 20;  // bytes that are read at a time
const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe];

/**
 * @typedef {object} Wav
 * @property {number} rate  Hz
 * @property {number} channels
 * @property {number} bits  of a sample
 * @property {boolean} float
 * @property {boolean} pcm  whether it can be read here; not ADPCM, A-law ...
 * @property {number} begin  of the samples in the file, bytes
 * @property {number} frames
 */

/**
 * Read the header.
 * @param {Blob} file
 * @returns {Promise<Wav | null>}  null: the header is not whole
 */
export async function readHeader(file) {
  /** @type {Omit<Wav, 'begin' | 'frames'> | null} */
  let format = null;
  let long = 0;  // size of the data chunk in RF64
  for (let at = 12; at + 8 <= file.size;) {
    const chunk = new DataView(await file.slice(at, at + 48).arrayBuffer());
    const name = textAt(new Uint8Array(chunk.buffer), 0, 4);
    const size = chunk.getUint32(4, true);
    if (name === 'ds64' && chunk.byteLength >= 24) long = Number(chunk.getBigUint64(16, true));
    if (name === 'fmt ') format = readFormat(chunk, size);
    if (name === 'data') {
      if (!format) return null;
      const begin = at + 8;
      const stated = size === 0xffffffff ? long : size;  // 0: a recorder that never came back to write it
      const bytes = Math.min(stated || Infinity, file.size - begin);
      return {...format, begin, frames: format.pcm ? Math.floor(8 * bytes / format.channels / format.bits) : 0};
    }
    at += 8 + size + (size & 1);
  }
  return null;
}

/**
 * @param {DataView} chunk
 * @param {number} size
 */
function readFormat(chunk, size) {
  if (size < 16 || chunk.byteLength < 24) return null;
  const extended = chunk.getUint16(8, true) === EXTENSIBLE && size >= 40 && chunk.byteLength >= 34;
  const tag = extended ? chunk.getUint16(32, true) : chunk.getUint16(8, true);
  const channels = chunk.getUint16(10, true);
  const rate = chunk.getUint32(12, true);
  const bits = Math.floor(8 * chunk.getUint16(20, true) / Math.max(1, channels));  // of the container
  const known = tag === PCM ? [8, 16, 24, 32].includes(bits) : tag === FLOAT && [32, 64].includes(bits);
  return channels && rate ? {rate, channels, bits, float: tag === FLOAT, pcm: known} : null;
}

/**
 * Yield the channels, one array each, in pieces.
 * @param {Blob} file
 * @param {Wav} wav
 * @returns {AsyncGenerator<Float32Array[]>}
 */
export async function* readPieces(file, wav) {
  const frame = wav.channels * wav.bits / 8;
  const frames = Math.max(1, Math.floor(PIECE / frame));
  for (let first = 0; first < wav.frames; first += frames) {
    const count = Math.min(frames, wav.frames - first);
    const begin = wav.begin + first * frame;
    const data = new DataView(await file.slice(begin, begin + count * frame).arrayBuffer());
    const read = reader(data, wav);
    yield Array.from({length: wav.channels}, (_, channel) => {
      const samples = new Float32Array(count);
      for (let at = 0; at < count; at++) samples[at] = read(at * frame + channel * wav.bits / 8);
      return samples;
    });
  }
}

/**
 * A function from the place of a sample to its value in [-1, 1], scaled as libsndfile does.
 * @param {DataView} data
 * @param {Wav} wav
 * @returns {(at: number) => number}
 */
function reader(data, {bits, float}) {
  if (float) return bits === 64 ? (at) => data.getFloat64(at, true) : (at) => data.getFloat32(at, true);
  if (bits === 8) return (at) => (data.getUint8(at) - 128) / 128;
  if (bits === 16) return (at) => data.getInt16(at, true) / 0x8000;
  if (bits === 24) return (at) => ((data.getInt8(at + 2) << 16) | data.getUint16(at, true)) / 0x800000;
  return (at) => data.getInt32(at, true) / 0x80000000;
}
