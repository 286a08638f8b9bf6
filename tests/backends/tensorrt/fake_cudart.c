/* A CUDA runtime over host memory, for the tests of satexport/cuda.py and of what stands on it.
 *
 * A kernel is a callback that `fake_enqueue` puts on a stream: it runs at once, or becomes part of the graph that
 * the stream captures. New memory is full of 0xff, which is NaN as a float. What is made and not destroyed is
 * counted; `fake_fail` has a call fail, `fake_set` changes what the machine says of itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORK 8
#define INVALID 1

typedef void (*kernel)(void *);
struct graph { int count; kernel work[WORK]; void *argument[WORK]; };
struct stream { int capturing; struct graph *graph; };

static struct { char name[64]; int code; int after; } failure;
static int version = 12060, devices = 1, live, last_error, copies;

void fake_fail(const char *name, int code, int after) {
    strncpy(failure.name, name, sizeof failure.name - 1);
    failure.code = code;
    failure.after = after;
}

void fake_set(int new_version, int new_devices) { version = new_version; devices = new_devices; }
int fake_live(void) { return live; }
int fake_copies(void) { return copies; }

static int called(const char *name) {
    if (!failure.code || strcmp(name, failure.name) || failure.after-- > 0) return 0;
    int code = failure.code;
    failure.code = 0;
    return last_error = code;
}
#define CALLED do { int code_ = called(__func__); if (code_) return code_; } while (0)

const char *cudaGetErrorString(int code) {
    switch (code) {
    case 2: return "out of memory";
    case 35: return "CUDA driver version is insufficient for CUDA runtime version";
    case 100: return "no CUDA-capable device is detected";
    case 700: return "an illegal memory access was encountered";
    case 901: return "operation failed due to a previous error during capture";
    default: return "invalid argument";
    }
}

int cudaGetLastError(void) { int code = last_error; last_error = 0; return code; }
int cudaRuntimeGetVersion(int *out) { CALLED; *out = version; return 0; }
int cudaGetDeviceCount(int *out) { CALLED; *out = devices; return 0; }

int cudaDeviceGetAttribute(int *out, int attribute, int device) {
    CALLED;
    if (device || attribute < 75 || attribute > 76) return last_error = INVALID;
    *out = attribute == 75 ? 8 : 7;
    return 0;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    CALLED;
    *free_bytes = (size_t)5 << 30;
    *total = (size_t)8 << 30;
    return 0;
}

int cudaMalloc(void **out, size_t size) {
    CALLED;
    *out = malloc(size ? size : 1);
    memset(*out, 0xff, size);
    live++;
    return 0;
}

int cudaFree(void *address) { CALLED; free(address); live--; return 0; }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    CALLED;
    if (!stream || (kind != 1 && kind != 2)) return last_error = INVALID;
    memcpy(to, from, size);
    copies++;
    return 0;
}

int cudaStreamCreateWithFlags(void **out, unsigned flags) {
    CALLED;
    if (flags != 1) return last_error = INVALID;
    *out = calloc(1, sizeof(struct stream));
    live++;
    return 0;
}

int cudaStreamSynchronize(void *stream) {
    CALLED;
    return ((struct stream *)stream)->capturing ? (last_error = 900) : 0;
}

int cudaStreamDestroy(void *stream) { CALLED; free(stream); live--; return 0; }

int cudaStreamBeginCapture(struct stream *stream, int mode) {
    CALLED;
    if (stream->capturing || mode != 1) return last_error = INVALID;
    stream->capturing = 1;
    stream->graph = calloc(1, sizeof(struct graph));
    live++;
    return 0;
}

int cudaStreamEndCapture(struct stream *stream, struct graph **out) {
    int code = called(__func__);
    if (!stream->capturing) return last_error = INVALID;
    stream->capturing = 0;
    if (code) { free(stream->graph); live--; }
    *out = code ? NULL : stream->graph;
    return code;
}

int cudaGraphInstantiate(struct graph **out, struct graph *graph, unsigned long long flags) {
    CALLED;
    if (!graph || flags) return last_error = INVALID;
    *out = malloc(sizeof **out);
    **out = *graph;
    live++;
    return 0;
}

int cudaGraphDestroy(struct graph *graph) { CALLED; free(graph); live--; return 0; }
int cudaGraphExecDestroy(struct graph *graph) { CALLED; free(graph); live--; return 0; }

int cudaGraphLaunch(struct graph *graph, struct stream *stream) {
    CALLED;
    if (stream->capturing) return last_error = INVALID;
    for (int i = 0; i < graph->count; i++) graph->work[i](graph->argument[i]);
    return 0;
}

int fake_enqueue(struct stream *stream, kernel work, void *argument) {
    CALLED;
    if (!stream->capturing) { work(argument); return 0; }
    if (stream->graph->count == WORK) return last_error = INVALID;
    stream->graph->work[stream->graph->count] = work;
    stream->graph->argument[stream->graph->count++] = argument;
    return 0;
}
