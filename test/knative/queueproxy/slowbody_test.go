package queueproxy

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestBodyThatDoesNotCome shows whose limit counts for a caller that stops in the middle of its request: the function's. It has answered
// and is free for others then, whenever the caller gets to hear it.
func TestBodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	platform := startPlatform(t)
	for _, test := range []struct {
		name       string
		fullDuplex bool
	}{
		// queue-proxy's server wants to read a request to its end before it hands out the answer.
		{name: "as the manifest has it, the rest sent in the end"},
		// As with the annotation features.knative.dev/http-full-duplex: Enabled, it does not. But then answers to bodies that are too
		// large get lost, which TestTraffic finds: a broker would send those again.
		{name: "with full duplex", fullDuplex: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			options := podOptions{}
			if test.fullDuplex {
				options.queue = map[string]string{"ENABLE_HTTP_FULL_DUPLEX": "true"}
			}
			pod := startPod(t, platform, options)
			pod.becomesReady(t)
			limit, err := strconv.Atoi(valueOf(pod.manifest.queue.Env, "REVISION_RESPONSE_START_TIMEOUT_SECONDS"))
			is.NoErr(err)
			call := startCall(t, pod.throughQueue()) // and no more of it comes
			took := eventually(t, time.Duration(limit)*time.Second, func() bool {
				return pod.metrics(t)[`coffeebuddy_http_requests_total{code="408",method="POST",route="/"}`] == 1
			})
			is.Equal(pod.metrics(t)["coffeebuddy_events_in_flight"], 0.0)
			if !test.fullDuplex {
				// Should the pod be stopped meanwhile, queue-proxy waits for the caller until it is killed.
				call.silent(t, time.Duration(limit+2)*time.Second) // not even queue-proxy's own 504 gets out
				call.write(t, lastPart)
			}
			a, err := call.answer()
			is.NoErr(err)
			is.Equal(a.status, http.StatusRequestTimeout) // not queue-proxy's 504
			figure(t, "body that does not come (%s): the function says 408 after %s; its caller hears it after %s",
				test.name, rounded(took), rounded(a.took))

			a, err = pod.send(t.Context(), request{http.MethodPost, "/", jsonHeader(), `{"n":1}`})
			is.NoErr(err)
			is.Equal(a.status, http.StatusOK) // and others are answered
		})
	}
}
