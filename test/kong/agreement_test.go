package kong

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coffeebuddy"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/handler/handlertest"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
	"knative.dev/networking/pkg/http/header"
	"knative.dev/serving/pkg/activator"
	kyaml "sigs.k8s.io/yaml"
)

// metricsPath is the default of COFFEEBUDDY_METRICS_PATH.
const metricsPath = "/metrics"

// TestFunctionIsNotPublic asks for all that the handler serves besides Slack's routes.
func TestFunctionIsNotPublic(t *testing.T) {
	t.Parallel()
	function := newFunction(t)
	for _, path := range []string{handler.LivePath, handler.ReadyPath, handler.EventsPath, metricsPath} {
		is := is.New(t)
		served := httptest.NewRecorder()
		function.ServeHTTP(served, httptest.NewRequest(http.MethodOptions, path, nil))
		is.Equal(served.Code, http.StatusMethodNotAllowed) // the function has no such path any more
		for form, c := range both(t) {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
				got, err := c.ask(request{"https", "coffeebuddy.example.com", method, path})
				is.NoErr(err)
				if got.Status != http.StatusNotFound {
					t.Errorf("%s: %s %s comes to %+v", form, method, path, got)
				}
			}
		}
	}
}

// TestFunctionReadsWhatKongLetsThrough sends events of Slack's at and above the limit.
func TestFunctionReadsWhatKongLetsThrough(t *testing.T) {
	t.Parallel()
	function := slacktest.New(t)
	post := func(size int) int {
		const start, end = `{"type":"event_callback","event":{"type":"message","text":"`, `"}}`
		body := start + strings.Repeat("x", size-len(start+end)) + end
		return function.Send(slacktest.Request(slacktest.Secret, "/slack/events", "application/json", body)).Status
	}
	is := is.New(t)
	is.Equal(post(bodyMax), http.StatusOK)
	is.Equal(post(bodyMax+1), http.StatusRequestEntityTooLarge)
}

// TestFunctionTakesKongsRequestIDs sends an id as the generator makes it, and one as
// Kong's default would.
func TestFunctionTakesKongsRequestIDs(t *testing.T) {
	t.Parallel()
	function := newFunction(t)
	for id, taken := range map[string]bool{
		"3b241101-e2bb-4255-8caf-4136c566a962":    true,
		"3b241101-e2bb-4255-8caf-4136c566a962#12": false,
	} {
		is := is.New(t)
		r := httptest.NewRequest(http.MethodGet, handler.LivePath, nil)
		r.Header.Set("X-Request-Id", id)
		answered := httptest.NewRecorder()
		function.ServeHTTP(answered, r)
		is.Equal(answered.Header().Get("X-Request-Id") == id, taken)
	}
}

func newFunction(t *testing.T) http.Handler {
	t.Helper()
	function := handlertest.NewWith(t, func(_ *events.Config, c *handler.Config) { c.MetricsPath = metricsPath })
	return function
}

// TestSlackFeatureServesTheSamePaths looks for Slack's paths in the function's source.
// The feature mounts them itself, and only where it has its secret.
func TestSlackFeatureServesTheSamePaths(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	literal := regexp.MustCompile(`"(?:POST )?(/slack/[^"]*)"`)
	var served []string
	for _, pattern := range []string{"../../*.go", "../../handler/*.go", "../../slack/*.go"} {
		names, err := filepath.Glob(pattern)
		is.NoErr(err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			is.NoErr(err)
			for _, found := range literal.FindAllStringSubmatch(string(text), -1) {
				served = append(served, found[1])
			}
		}
	}
	slices.Sort(served)
	is.Equal(slices.Compact(served), slices.Sorted(slices.Values(slackPaths())))
}

// TestSlackFeatureRespondsBeforeKongGivesUp, where its response is a receiver's reply.
func TestSlackFeatureRespondsBeforeKongGivesUp(t *testing.T) {
	t.Parallel()
	is.New(t).Equal(slack.ReplyWithin, replyMax)
}

// TestSlackFeatureAcknowledgesBeforeKongGivesUp asks the settings how long the function
// may take. Not parallel: it sets the environment.
func TestSlackFeatureAcknowledgesBeforeKongGivesUp(t *testing.T) {
	const variable = "COFFEEBUDDY_SLACK_ACK_AFTER"
	is := is.New(t)
	t.Setenv(variable, ackMax.String())
	settings, err := coffeebuddy.Load()
	is.NoErr(err)
	is.Equal(settings.Slack.AckAfter, ackMax)
	t.Setenv(variable, (ackMax + time.Millisecond).String())
	_, err = coffeebuddy.Load()
	is.True(err != nil) // it may acknowledge later than Kong waits
}

// TestForgedHeaders holds the list to the constants of Knative, whose components act on
// these headers.
func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	knative := []string{
		header.HashKey,
		header.ProbeKey,
		header.ProxyKey,
		header.OriginalHostKey,
		header.KubeletProbeKey,
		header.RouteTagKey,
		header.DefaultRouteKey,
		header.PassthroughLoadbalancingKey,
		header.UserAgentKey,
		activator.RevisionHeaderName,
		activator.RevisionHeaderNamespace,
	}
	for _, name := range knative {
		is.True(slices.Contains(forgedHeaders(), name)) // Knative believes it
	}
	for _, name := range forgedHeaders() {
		ours := strings.HasPrefix(name, "K-") || strings.HasPrefix(name, "Knative-")
		is.True(!ours || slices.Contains(knative, name)) // Knative knows nothing of it any more
	}
}

// knativeService is what the gateway relies on in knative/.
type knativeService struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Metadata struct {
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
			Spec struct {
				TimeoutSeconds              int `json:"timeoutSeconds"`
				ResponseStartTimeoutSeconds int `json:"responseStartTimeoutSeconds"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// TestKnativeAgrees holds knative/ and the gateway together: the name, that there is no
// other way in, that it is warm, and that Kong gives up first.
func TestKnativeAgrees(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var services []knativeService
	documents, err := documents(folder(t, "../../knative"))
	is.NoErr(err)
	for _, d := range documents {
		if d.Kind == "Service" && strings.HasPrefix(d.APIVersion, "serving.knative.dev/") {
			var s knativeService
			is.NoErr(kyaml.Unmarshal(d.text, &s))
			services = append(services, s)
		}
	}
	is.Equal(len(services), 1)
	s := services[0]
	is.Equal(s.Metadata.Name, knativeName)
	is.Equal(s.Metadata.Name+"."+s.Metadata.Namespace+".svc.cluster.local", knativeHost)
	is.Equal(s.Metadata.Labels["networking.knative.dev/visibility"], "cluster-local") // else the health routes are public past Kong
	warm := s.Spec.Template.Metadata.Annotations["autoscaling.knative.dev/min-scale"]
	is.True(warm != "" && warm != "0") // a start from zero takes longer than Slack waits

	for _, c := range both(t) {
		waits := or(c.Services[0].ReadTimeout, defaultTimeout)
		is.True(waits < 1000*s.Spec.Template.Spec.ResponseStartTimeoutSeconds)
		is.True(waits < 1000*s.Spec.Template.Spec.TimeoutSeconds)
	}
	for _, s := range mustRead(t).services {
		is.Equal(s.Namespace, services[0].Metadata.Namespace)
		is.True(s.Name != services[0].Metadata.Name) // Knative makes a Service of that name
	}
}

func mustRead(t *testing.T) *cluster {
	t.Helper()
	c, _, err := read(kubernetesText(t))
	is.New(t).NoErr(err)
	return c
}

// TestReadme holds what the README of kong/ says to what the files have.
func TestReadme(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	text, err := os.ReadFile("../../kong/README.md")
	is.NoErr(err)
	for _, name := range forgedHeaders() {
		is.True(strings.Contains(string(text), "`"+name+"`")) // a header that the README does not name
	}
	for _, path := range slackPaths() {
		is.True(strings.Contains(string(text), "`"+path+"`"))
	}
}
