/**
 * An AudioWorkletProcessor that passes the microphone's samples on in blocks: to the Worker directly, so that the
 * main thread and its throttled timers have no part in it; and the level of each block to the page.
 */

const BLOCK = 2048;  // samples; 43 ms at 48 kHz
const scope = /** @type {any} */ (globalThis);  // AudioWorkletGlobalScope

class Capture extends scope.AudioWorkletProcessor {
  constructor() {
    super();
    /** @type {MessagePort | null} */
    this.samples = null;
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
    this.captured = 0;  // samples passed on
    this.lost = 0;  // samples that the browser left out
    this.next = -1;  // frame that process() expects
    this.ended = false;
    this.port.onmessage = (/** @type {MessageEvent} */ {data}) => {
      if (data.samples) this.samples = data.samples;
      else this.finish();
    };
  }

  /**
   * @param {Float32Array[][]} inputs  one input of one channel
   * @returns {boolean}  false: the node has ended
   */
  process(inputs) {
    const channel = inputs[0]?.[0];
    if (this.ended || !this.samples || !channel) return !this.ended;
    const frame = scope.currentFrame;
    if (this.next >= 0) this.lost += frame - this.next;
    this.next = frame + channel.length;
    for (let at = 0; at < channel.length;) {
      const count = Math.min(channel.length - at, BLOCK - this.filled);
      this.block.set(channel.subarray(at, at + count), this.filled);
      this.filled += count;
      at += count;
      if (this.filled === BLOCK) this.send();
    }
    return true;
  }

  send() {
    const block = this.block.slice(0, this.filled);
    let peak = 0;
    let squares = 0;
    for (const sample of block) {
      peak = Math.max(peak, Math.abs(sample));
      squares += sample * sample;
    }
    const rms = Math.sqrt(squares / block.length);
    this.captured += block.length;
    this.filled = 0;
    this.port.postMessage({peak, rms, captured: this.captured, lost: this.lost});
    this.samples?.postMessage(block, [block.buffer]);  // last: it takes the samples away
  }

  /** Send the rest, and say that nothing follows. */
  finish() {
    if (this.samples && this.filled) this.send();
    this.ended = true;
    this.port.postMessage({ended: true, captured: this.captured, lost: this.lost});
  }
}

scope.registerProcessor('capture', Capture);
