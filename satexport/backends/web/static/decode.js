/** A dropped file as mono samples at its own sample rate; the channels are averaged, as `satexport run` does. */

import {HEAD, identify, mp4Rate, textAt} from './containers.js';
import {MAX_AMPLITUDE, RATES} from './samples.js';
import {readHeader, readPieces} from './wav.js';

const UNKNOWN_RATE = 48_000;  // Hz
export const MAX_WHOLE = 128 * 2 ** 20;  // bytes of a file that must be decoded as a whole
const CANCELLED = 0.1;  // warn if the mean has less than this share of the power of uncorrelated channels
const SILENT = 1e-8;  // mean square, -80 dBFS: below it, cancelled channels do not matter
const CONVERT = 'Convert it first, for example with: ffmpeg -i IN OUT.wav';
const megabytes = (/** @type {number} */ bytes) => Math.round(bytes / 1e6);

/**
 * @typedef {object} Sound
 * @property {string} kind  "WAV", "Ogg Vorbis" ...
 * @property {number} rate  Hz
 * @property {number} samples
 * @property {string[]} notes  sentences for the reader, complete after the last block
 * @property {() => AsyncGenerator<Float32Array>} blocks  mono; about 1 s each
 */

/** A file that cannot be heard: what was found, what was expected, what to do. */
export class FileError extends Error {}

/**
 * Open an audio file.
 * @param {File} file
 * @returns {Promise<Sound>}
 * @throws {FileError}
 */
export async function open(file) {
  if (!file.size) throw new FileError('The file is empty; expected audio. Record or copy it again.');
  const head = new Uint8Array(await read(file.slice(0, HEAD)));
  const found = identify(head);
  const wav = found?.kind === 'WAV' ? await readHeader(file) : null;
  if (found && wav) found.rate = wav.rate;
  await rateOf(file, found);
  checkRate(found?.rate ?? UNKNOWN_RATE);
  const sound = wav?.pcm ? fromWav(file, wav) : await fromBrowser(file, found);
  if (!sound.samples) throw new FileError('The file contains no samples; expected audio. Record it again.');
  return sound;
}

/** @param {number} rate  Hz, of the file's header */
function checkRate(rate) {
  if (Number.isInteger(rate) && rate >= RATES.lowest && rate <= RATES.highest) return;
  throw new FileError(`The file is at ${rate} Hz; expected a whole number from ${RATES.lowest} to ${RATES.highest} Hz. `
    + 'Resample it first, for example with: ffmpeg -i IN -ar 48000 OUT.wav');
}

/** @param {Blob} blob */
async function read(blob) {
  try {
    return await blob.arrayBuffer();
  } catch (error) {
    throw new FileError(`The file cannot be read (${reason(error)}). If it was moved or changed, or is a folder, `
      + 'choose the file again.');
  }
}

/**
 * Look for the rate also behind the first bytes.
 * @param {Blob} file
 * @param {import('./containers.js').Container | null} found
 */
export async function rateOf(file, found) {
  if (found?.kind === 'MP4') found.rate ??= mp4Rate(await readMovie(file));
  return found;
}

/**
 * The beginning of the box `moov` of an MP4 file, which may lie behind the audio; nothing if there is none.
 * @param {Blob} file
 */
async function readMovie(file) {
  for (let at = 0; at + 8 <= file.size;) {
    const box = new DataView(await read(file.slice(at, at + 16)));
    const name = textAt(new Uint8Array(box.buffer), 4, 4);
    if (name === 'moov') return new Uint8Array(await read(file.slice(at, at + HEAD)));
    const size = box.getUint32(0);  // 1: 64 bits follow the name; 0: to the end of the file
    const bytes = size === 1 && box.byteLength === 16 ? Number(box.getBigUint64(8)) : size;
    if (bytes < 8) break;
    at += bytes;
  }
  return new Uint8Array(0);
}

/** @param {unknown} error */
const reason = (error) => error instanceof Error ? error.message.replace(/\.$/, '') : String(error);

/**
 * @param {File} file
 * @param {import('./wav.js').Wav} wav
 * @returns {Sound}
 */
function fromWav(file, wav) {
  /** @type {string[]} */
  const notes = [];
  const blocks = () => mono(readPieces(file, wav), wav.rate, notes);
  return {kind: 'WAV', rate: wav.rate, samples: wav.frames, notes, blocks};
}

/**
 * Decode by the browser, in a context of the file's rate, so that it does not resample.
 * @param {File} file
 * @param {import('./containers.js').Container | null} found
 * @returns {Promise<Sound>}
 */
async function fromBrowser(file, found) {
  if (file.size > MAX_WHOLE) {
    throw new FileError(`The file has ${megabytes(file.size)} MB; a browser decodes it as a whole, so expected are at `
      + `most ${megabytes(MAX_WHOLE)} MB. Cut it into parts, or convert it to WAV (PCM), which is read piece by piece `
      + 'and may have any length.');
  }
  const rate = found?.rate ?? UNKNOWN_RATE;
  const bytes = await read(file);
  /** @type {AudioBuffer} */
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    const kind = found ? `it starts like ${found.kind}` : 'it starts like no audio file that is known here';
    throw new FileError(`This browser cannot decode the file (${kind}); expected WAV, FLAC, Ogg, MP3 or M4A that is `
      + `whole. ${CONVERT}`);
  }
  const notes = found?.rate ? [] : [`Its own sample rate was not found, so the browser decoded it at ${UNKNOWN_RATE} `
    + 'Hz: scores may differ a little from those of satexport run.'];
  return {
    kind: found?.kind ?? 'audio', rate: buffer.sampleRate, samples: buffer.length, notes,
    blocks: () => mono(pieces(buffer), buffer.sampleRate, notes),
  };
}

/**
 * @param {AudioBuffer} buffer
 * @returns {AsyncGenerator<Float32Array[]>}
 */
async function* pieces(buffer) {
  for (let at = 0; at < buffer.length; at += buffer.sampleRate) {
    yield Array.from({length: buffer.numberOfChannels}, (_, channel) =>
      buffer.getChannelData(channel).subarray(at, Math.min(buffer.length, at + buffer.sampleRate)));
  }
}

/**
 * The mean of the channels, checked, in blocks of at most 1 s. At the end it notes channels that cancelled each other.
 * @param {AsyncGenerator<Float32Array[]>} pieces
 * @param {number} rate
 * @param {string[]} notes
 * @returns {AsyncGenerator<Float32Array>}
 */
async function* mono(pieces, rate, notes) {
  let [before, after, count, channelCount] = [0, 0, 0, 1];  // sums of squares
  for await (const channels of pieces) {
    const mean = new Float32Array(channels[0]?.length ?? 0);
    for (const samples of channels) {
      for (let at = 0; at < mean.length; at++) mean[at] = (mean[at] ?? 0) + (samples[at] ?? 0) / channels.length;
    }
    check(mean);
    count += mean.length;
    channelCount = channels.length;
    if (channelCount > 1) {
      for (const samples of channels) before += power(samples) / channelCount;
      after += power(mean);
    }
    for (let at = 0; at < mean.length; at += rate) yield mean.slice(at, at + rate);
  }
  if (channelCount > 1 && before > SILENT * count && after * channelCount < CANCELLED * before) {
    const lost = Math.min(99, 10 * Math.log10(before / Math.max(after, 1e-30)));
    notes.push(`Its ${channelCount} channels cancel each other: their mean, which the model hears, is `
      + `${lost.toFixed(0)} dB weaker than the channels. To use only the first: `
      + "ffmpeg -i IN -af 'pan=mono|c0=c0' OUT.wav");
  }
}

/** @param {Float32Array} samples */
function power(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return sum;
}

/**
 * Refuse what is no audio.
 * @param {Float32Array} samples
 */
function check(samples) {
  let peak = 0;
  for (const sample of samples) {
    if (!Number.isFinite(sample)) {
      throw new FileError('The file contains NaN or infinity; expected finite samples in [-1, 1]. Repair it, or leave '
        + 'it out.');
    }
    peak = Math.max(peak, Math.abs(sample));
  }
  if (peak > MAX_AMPLITUDE) {
    const scale = 2 ** Math.ceil(Math.log2(peak));
    throw new FileError(`The file's samples reach ${peak.toPrecision(6)}; full scale is 1, and expected are at most `
      + `${MAX_AMPLITUDE}. They are integers stored as floats, or recorded far too loud. Scale the file first: `
      + `ffmpeg -i IN -af volume=1/${scale} OUT.wav`);
  }
}
