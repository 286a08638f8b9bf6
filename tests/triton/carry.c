/* A backend of Triton that returns states, which a model in Python cannot do: each state is the one before, with 1
 * added to its first number. The scores begin with the first number of each state as it came in, in the order of the
 * states' names. The declarations are those of tritonserver's C API (tritonbackend.h), as far as it is used. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 527
#define FP32 11 /* TRITONSERVER_TYPE_FP32 */
#define ALL 1   /* TRITONSERVER_REQUEST_RELEASE_ALL, TRITONSERVER_RESPONSE_COMPLETE_FINAL */
#define CHECK(call) do { if (!failed) failed = (call); } while (0)

typedef struct error error;
error *TRITONBACKEND_RequestInputCount(void *request, uint32_t *count);
error *TRITONBACKEND_RequestInputByIndex(void *request, uint32_t index, void **input);
error *TRITONBACKEND_InputProperties(void *input, const char **name, int *type, const int64_t **shape, uint32_t *dims,
                                     uint64_t *size, uint32_t *buffers);
error *TRITONBACKEND_InputBuffer(void *input, uint32_t index, const void **buffer, uint64_t *size, int *memory,
                                 int64_t *memory_id);
error *TRITONBACKEND_StateNew(void **state, void *request, const char *name, int type, const int64_t *shape,
                              uint32_t dims);
error *TRITONBACKEND_StateBuffer(void *state, void **buffer, uint64_t size, int *memory, int64_t *memory_id);
error *TRITONBACKEND_StateUpdate(void *state);
error *TRITONBACKEND_ResponseNew(void **response, void *request);
error *TRITONBACKEND_ResponseOutput(void *response, void **output, const char *name, int type, const int64_t *shape,
                                    uint32_t dims);
error *TRITONBACKEND_OutputBuffer(void *output, void **buffer, uint64_t size, int *memory, int64_t *memory_id);
error *TRITONBACKEND_ResponseSend(void *response, uint32_t flags, error *failed);
error *TRITONBACKEND_RequestRelease(void *request, uint32_t flags);

/* Return the next state of one that came in, and note its first number; an input that is none is left. */
static error *carry(void *request, void *input, float *scores)
{
    const char *name;
    int type, memory = 0;
    const int64_t *shape;
    uint32_t dims, buffers;
    uint64_t size, part;
    int64_t memory_id = 0;
    const void *before;
    void *state, *after;
    char output[64];
    float first;
    error *failed = TRITONBACKEND_InputProperties(input, &name, &type, &shape, &dims, &size, &buffers);
    if (failed || strncmp(name, "cache_in_", 9))
        return failed;
    CHECK(TRITONBACKEND_InputBuffer(input, 0, &before, &part, &memory, &memory_id));
    snprintf(output, sizeof output, "cache_out_%s", name + 9);
    CHECK(TRITONBACKEND_StateNew(&state, request, output, type, shape, dims));
    CHECK(TRITONBACKEND_StateBuffer(state, &after, size, &memory, &memory_id));
    if (failed || part != size || buffers != 1)
        return failed;
    memcpy(&first, before, sizeof first);
    scores[atoi(name + 9)] = first;
    memcpy(after, before, size);
    first += 1;
    memcpy(after, &first, sizeof first);
    return TRITONBACKEND_StateUpdate(state);
}

static error *answer(void *request, void *response)
{
    static const int64_t shape[2] = {1, CLASSES};
    float scores[CLASSES] = {0};
    uint32_t count = 0;
    int memory = 0;
    int64_t memory_id = 0;
    void *input, *output, *buffer;
    error *failed = TRITONBACKEND_RequestInputCount(request, &count);
    for (uint32_t index = 0; index < count; index++) {
        CHECK(TRITONBACKEND_RequestInputByIndex(request, index, &input));
        CHECK(carry(request, input, scores));
    }
    CHECK(TRITONBACKEND_ResponseOutput(response, &output, "scores", FP32, shape, 2));
    CHECK(TRITONBACKEND_OutputBuffer(output, &buffer, sizeof scores, &memory, &memory_id));
    if (!failed)
        memcpy(buffer, scores, sizeof scores);
    return failed;
}

__attribute__((visibility("default")))
error *TRITONBACKEND_ModelInstanceExecute(void *instance, void **requests, uint32_t count)
{
    (void)instance;
    for (uint32_t number = 0; number < count; number++) {
        void *response;
        error *failed = TRITONBACKEND_ResponseNew(&response, requests[number]);
        if (failed)
            return failed;
        TRITONBACKEND_ResponseSend(response, ALL, answer(requests[number], response));
        TRITONBACKEND_RequestRelease(requests[number], ALL);
    }
    return NULL;
}
