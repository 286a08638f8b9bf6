// What the module uses of ONNX Runtime Web, and of a Worker's global scope, for the type check (tsconfig.json).

interface OrtTensor {
  readonly data: Float32Array<ArrayBuffer>;
  readonly dims: readonly number[];
}

interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(inputs: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>;
}

interface Ort {
  env: {
    logLevel: string;
    versions: {web?: string};
    wasm: {numThreads: number; wasmBinary?: ArrayBuffer};
  };
  InferenceSession: {
    create(graph: Uint8Array, options: {
      executionProviders: string[];
      externalData: {path: string; data: Uint8Array}[];
    }): Promise<OrtSession>;
  };
  Tensor: new (type: 'float32', data: Float32Array, dims: number[]) => OrtTensor;
}

interface WorkerScope {
  onmessage: (event: MessageEvent) => void;
  postMessage(message: unknown, transferred: Transferable[]): void;
}
