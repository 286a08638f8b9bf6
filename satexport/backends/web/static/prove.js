/** The proof of a bundle in this browser: its golden chunks against the scores that PyTorch gave for them. */

import {SatexportError, firstLine} from './errors.js';
import {readNpz} from './npy.js';
import {AudioStream} from './stream.js';

/** @typedef {import('./files.js').Folder} Folder */
/** @typedef {import('./npy.js').NumpyArray} NumpyArray */
/** @typedef {import('./stream.js').Step} Step */

/**
 * @typedef {object} Proof
 * @property {number} chunks how many were compared
 * @property {number} largest largest difference of a score
 * @property {number} mean mean difference of all scores
 * @property {number} top1 share of the chunks whose highest score has the same label
 * @property {number[]} stepMs milliseconds of each step
 */

const GOLDEN = 'golden.npz';
const PCM_SCALE = 32_768;  // int16 to [-1, 1)

/**
 * Run the golden chunks through a stream of their own, which starts from silence.
 * @param {Folder} folder
 * @param {Step} step
 * @param {(done: number, total: number) => void} onProgress told chunks
 * @returns {Promise<Proof>}
 */
export async function prove(folder, step, onProgress) {
  const {contract} = folder.manifest;
  const {audio, scores} = await readGolden(folder);
  const [chunks, classes] = scores.shape;
  const stream = new AudioStream(step, contract);
  let largest = 0, sum = 0, same = 0;
  /** @type {number[]} */
  const stepMs = [];
  for (let index = 0; index < chunks; index++) {
    const samples = audio.data.subarray(index * contract.hop_samples, (index + 1) * contract.hop_samples);
    const expected = scores.data.subarray(index * classes, (index + 1) * classes);
    await stream.feed(Float32Array.from(samples, (sample) => sample / PCM_SCALE), contract.sample_rate, (chunk) => {
      chunk.scores.forEach((score, label) => {
        const difference = Math.abs(score - expected[label]);
        sum += difference;
        largest = Math.max(largest, difference);  // keeps a NaN
      });
      if (highest(chunk.scores) === highest(expected)) same++;
      stepMs.push(chunk.stepMs);
    });
    onProgress(index + 1, chunks);
  }
  return {chunks, largest, mean: sum / (chunks * classes), top1: same / chunks, stepMs};
}

/** @param {Folder} folder */
async function readGolden(folder) {
  const {hop_samples, classes} = folder.manifest.contract;
  const bytes = await folder.read(GOLDEN);
  /** @type {Record<string, NumpyArray>} */
  let arrays;
  try {
    arrays = await readNpz(bytes);
  } catch (error) {
    throw new SatexportError('bundle', `${GOLDEN} is damaged (${firstLine(error)}). Make the bundle again.`);
  }
  const {audio, scores} = arrays;
  if (audio?.shape[1] !== hop_samples || scores?.shape[1] !== classes || audio.shape[0] !== scores.shape[0]) {
    throw new SatexportError('bundle', `${GOLDEN} has audio [${audio?.shape}] and scores [${scores?.shape}], expected ` +
      `[N, ${hop_samples}] and [N, ${classes}]. Make the bundle again.`);
  }
  return {audio, scores};
}

/** The index of the highest number. @param {ArrayLike<number>} numbers */
function highest(numbers) {
  let best = 0;
  for (let index = 1; index < numbers.length; index++) if (numbers[index] > numbers[best]) best = index;
  return best;
}
