/** Files, one after the other, each a stream of its own that starts from silence. */

import {open} from './decode.js';

/** @typedef {import('./satexport.js').Model} Model */
/** @typedef {import('./satexport.js').Chunk} Chunk */

/**
 * Score a file.
 * @param {Model} model
 * @param {File} file
 * @param {{onScores: (chunk: Chunk) => void, onProgress: (share: number) => void, signal: AbortSignal}} options
 * @returns {Promise<string[]>}  sentences about what did not prevent reading
 * @throws {import('./decode.js').FileError | import('./satexport.js').SatexportError}  what came before was scored
 */
export async function readFile(model, file, {onScores, onProgress, signal}) {
  const sound = await open(file);
  const seconds = sound.samples / sound.rate;
  const stream = model.stream({onScores: (chunk) => onScores({...chunk, end: Math.min(chunk.end, seconds)})});
  let fed = 0;
  try {
    for await (const block of sound.blocks()) {
      if (signal.aborted) return sound.notes;
      await stream.feed(block, sound.rate);
      fed += block.length;
      onProgress(fed / sound.samples);
    }
    await stream.flush();
    return sound.notes;
  } finally {
    stream.close();
  }
}
