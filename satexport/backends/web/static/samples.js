/** Samples that a stream is fed: their type, rate and values. */

import {SatexportError} from './errors.js';

export const RATES = Object.freeze({lowest: 8000, highest: 192_000});  // Hz
export const MAX_AMPLITUDE = 8;  // full scale is 1; larger samples are certainly integers passed as floats
const UNCHANGED = 'The stream was not changed.';

/**
 * Throws SatexportError('audio') if this module cannot resample from a rate.
 * @param {unknown} rate Hz
 */
export function checkRate(rate) {
  if (Number.isInteger(rate) && Number(rate) >= RATES.lowest && Number(rate) <= RATES.highest) return;
  throw new SatexportError('audio', `the sample rate is ${rate}, expected a whole number from ${RATES.lowest} to ` +
    `${RATES.highest} Hz. ${UNCHANGED}`);
}

/**
 * Throws SatexportError('audio') if samples have another type than Float32Array.
 * @param {unknown} samples
 */
export function checkArray(samples) {
  if (samples instanceof Float32Array) return;
  const type = Object.prototype.toString.call(samples).slice('[object '.length, -1);
  throw new SatexportError('audio', `the samples are ${type}, expected a Float32Array in [-1, 1]. ${UNCHANGED}`);
}

/**
 * Throws SatexportError('audio') if samples are not audio.
 * @param {Float32Array} samples
 */
export function checkSamples(samples) {
  checkArray(samples);
  for (const sample of samples) {
    if (Math.abs(sample) <= MAX_AMPLITUDE) continue;  // false for NaN, too
    const found = Number.isFinite(sample) ? `reach ${Math.abs(sample).toPrecision(3)}` : 'contain NaN or infinity';
    throw new SatexportError('audio', `the samples ${found}, expected floats in [-1, 1]. ${UNCHANGED}`);
  }
}
