package kong

import (
	"testing"

	"github.com/matryer/is"
)

// TestNothingIsWrong holds both forms to every rule.
func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	for form, findings := range map[string][]finding{
		"kong.yaml":  inDeclarative(declarativeText(t)),
		"kubernetes": inKubernetes(kubernetesText(t)),
	} {
		for _, f := range findings {
			t.Errorf("%s: %v", form, f)
		}
	}
}

// inDeclarative returns all that is wrong with a text in the form of kong.yaml.
func inDeclarative(text string) []finding {
	c, err := decode(text)
	if err != nil {
		return []finding{{"keys", "the file", err.Error()}}
	}
	return check(c)
}

// inKubernetes returns all that is wrong with Kubernetes objects.
func inKubernetes(text string) []finding {
	c, documents, err := read(text)
	if err != nil {
		return []finding{{"keys", "the objects", err.Error()}}
	}
	return checkCluster(c, documents)
}

// TestWhoGetsThrough asks both forms as Kong's router would. A row is a request, and
// what becomes of it.
func TestWhoGetsThrough(t *testing.T) {
	t.Parallel()
	const ours = "coffeebuddy.example.com"
	const denied, upgrade, notOurs = 404, 426, 404
	for _, row := range []struct {
		scheme, method, host, path string
		status                     int // 0: it reaches the function
	}{
		{"https", "POST", ours, "/slack/commands", 0},
		{"https", "POST", ours, "/slack/interactions", 0},
		{"https", "POST", ours, "/slack/events", 0},
		{"http", "POST", ours, "/slack/events", upgrade},

		{"https", "GET", ours, "/slack/events", denied},
		{"https", "HEAD", ours, "/slack/events", denied},
		{"https", "PUT", ours, "/slack/commands", denied},
		{"https", "OPTIONS", ours, "/slack/commands", denied},
		{"http", "GET", ours, "/slack/commands", denied},

		{"https", "POST", ours, "/slack/events/", denied},
		{"https", "POST", ours, "/slack/eventsZZZ", denied},
		{"https", "POST", ours, "/slack/events\n", denied},
		{"https", "POST", ours, "/slack/commands\n", denied},
		{"https", "POST", ours, "/slack/interactions\n", denied},
		{"https", "POST", ours, "/slack/Events", denied},
		{"https", "POST", ours, "/slack", denied},
		{"https", "POST", ours, "/x/slack/events", denied},

		{"https", "GET", ours, "/health/live", denied},
		{"https", "GET", ours, "/health/ready", denied},
		{"https", "GET", ours, "/metrics", denied},
		{"https", "POST", ours, "/", denied},
		{"http", "GET", ours, "/", denied},

		{"https", "POST", "other.example.com", "/slack/events", notOurs},
	} {
		for form, c := range both(t) {
			t.Run(form+" "+row.scheme+" "+row.method+" "+row.host+row.path, func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				got, err := c.ask(request{row.scheme, row.host, row.method, row.path})
				is.NoErr(err)
				want := reply{Status: row.status}
				if row.status == 0 {
					want = reply{
						Target: "kourier-internal.kourier-system.svc.cluster.local:80",
						Host:   "coffeebuddy.coffeebuddy.svc.cluster.local",
						Path:   row.path,
					}
				}
				is.Equal(got, want)
			})
		}
	}
}

// TestFormsAreTheSame compares what a Kong holds after either form was loaded.
func TestFormsAreTheSame(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	forms := both(t)
	declarative, kubernetes := forms["kong.yaml"].ways(), forms["kubernetes"].ways()
	is.Equal(len(declarative), 1)
	is.Equal(len(kubernetes), 1)
	d, k := declarative[0], kubernetes[0]

	is.Equal(d.service.ConnectTimeout, k.service.ConnectTimeout)
	is.Equal(d.service.ReadTimeout, k.service.ReadTimeout)
	is.Equal(d.service.WriteTimeout, k.service.WriteTimeout)
	is.Equal(d.service.Retries, k.service.Retries)
	is.Equal(d.service.Protocol, k.service.Protocol)
	is.Equal(d.route.Hosts, k.route.Hosts)
	is.Equal(d.route.Protocols, k.route.Protocols)
	is.Equal(d.route.HTTPSRedirectStatusCode, k.route.HTTPSRedirectStatusCode)
	is.Equal(d.route.Methods, k.route.Methods)
	is.Equal(d.route.Paths, k.route.Paths)
	is.Equal(d.route.StripPath, k.route.StripPath)

	is.Equal(len(d.plugins), len(k.plugins))
	for name := range d.plugins {
		if name == "request-transformer" { // there it also sets the Host, here the upstream does
			is.Equal(d.plugins[name].texts("remove", "headers"), k.plugins[name].texts("remove", "headers"))
			continue
		}
		is.Equal(d.plugins[name].Config, k.plugins[name].Config)
	}

	deny := forms["kubernetes"].Routes[0]
	is.Equal(forms["kong.yaml"].Routes[0].Hosts, deny.Hosts)
	is.Equal(forms["kong.yaml"].Routes[0].Plugins, deny.Plugins)
}
