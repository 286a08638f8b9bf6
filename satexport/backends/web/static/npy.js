/** Arrays of numpy: `.npy` (format 1 to 3) and `.npz`, a zip file of them. */

/** @typedef {Float32Array<ArrayBuffer> | Int16Array<ArrayBuffer>} Numbers */
/** @typedef {{data: Numbers, shape: number[]}} NumpyArray */

const TYPES = {'<f4': Float32Array, '<i2': Int16Array};  // little endian, as every browser's machine is
const MAGIC = '\x93NUMPY';
const ZIP_END = 0x06054b50, ZIP_ENTRY = 0x02014b50;  // signatures, APPNOTE.TXT 4.3.16 and 4.3.12
const ZIP_END_BYTES = 22, ZIP_ENTRY_BYTES = 46, ZIP_FILE_BYTES = 30;
const STORED = 0, DEFLATED = 8;

/**
 * The array in an `.npy` file: float32 or int16 in C order. Throws an Error that says what it is instead.
 * @param {Uint8Array} bytes
 * @returns {NumpyArray}
 */
export function readNpy(bytes) {
  if (ascii(bytes.subarray(0, 6)) !== MAGIC) throw new Error('it does not start like an .npy file');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isFirstFormat = bytes[6] === 1;
  const begin = isFirstFormat ? 10 : 12;
  const end = begin + (isFirstFormat ? view.getUint16(8, true) : view.getUint32(8, true));
  const header = ascii(bytes.subarray(begin, end));
  const [, type] = header.match(/'descr': '([^']*)'/) ?? [];
  const [, sizes] = header.match(/'shape': \(([^)]*)\)/) ?? [];
  const Type = TYPES[/** @type {keyof typeof TYPES} */ (type)];
  if (!Type || sizes === undefined || !header.includes("'fortran_order': False")) {
    throw new Error(`its header is ${header.trim().slice(0, 80)}, expected float32 or int16 in C order`);
  }
  const shape = sizes.split(',').filter((size) => size.trim()).map(Number);
  const length = shape.reduce((product, size) => product * size, 1) * Type.BYTES_PER_ELEMENT;
  if (bytes.length - end !== length) throw new Error(`it has ${bytes.length - end} bytes of numbers, not ${length}`);
  return {data: new Type(bytes.slice(end).buffer), shape};  // a copy, whose offset suits the type
}

/**
 * The arrays in an `.npz` file by name. Throws an Error if it is damaged.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<Record<string, NumpyArray>>}
 */
export async function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let last = bytes.length - ZIP_END_BYTES;
  while (last >= 0 && view.getUint32(last, true) !== ZIP_END) last--;
  if (last < 0) throw new Error('it is not a zip file');
  /** @type {Record<string, NumpyArray>} */
  const arrays = {};
  let entry = view.getUint32(last + 16, true);
  for (let left = view.getUint16(last + 10, true); left > 0; left--) {
    if (view.getUint32(entry, true) !== ZIP_ENTRY) throw new Error('its list of files is damaged');
    const nameBytes = view.getUint16(entry + 28, true);
    const name = ascii(bytes.subarray(entry + ZIP_ENTRY_BYTES, entry + ZIP_ENTRY_BYTES + nameBytes));
    arrays[name.replace(/\.npy$/, '')] = readNpy(await unpack(bytes, view, entry));
    entry += ZIP_ENTRY_BYTES + nameBytes + view.getUint16(entry + 30, true) + view.getUint16(entry + 32, true);
  }
  return arrays;
}

/**
 * The content of the file that an entry of the zip's list describes.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {DataView} view of the same bytes
 * @param {number} entry its offset
 */
async function unpack(bytes, view, entry) {
  const method = view.getUint16(entry + 10, true), packed = view.getUint32(entry + 20, true);
  const file = view.getUint32(entry + 42, true);
  const begin = file + ZIP_FILE_BYTES + view.getUint16(file + 26, true) + view.getUint16(file + 28, true);
  const content = bytes.subarray(begin, begin + packed);
  if (method === STORED) return content;
  if (method !== DEFLATED) throw new Error(`it is compressed by method ${method}, expected ${DEFLATED} (deflate)`);
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @param {Uint8Array} bytes */
function ascii(bytes) {
  return String.fromCharCode(...bytes);
}
