package manifests

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"coffeebuddy"

	"github.com/matryer/is"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"knative.dev/pkg/observability/runtime"
	"sigs.k8s.io/yaml"

	"knative.dev/serving/pkg/networking"

	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

const (
	queueDrain  = 30 * time.Second // how long Knative's queue-proxy stays, at least, before the function is stopped (drainSleepDuration)
	bodyTimeout = 15 * time.Second // how long the function waits for a body; 408 then
	margin      = 5 * time.Second
)

// settings returns what the function's own Load makes of a container's environment.
func settings(t *testing.T, c corev1.Container) coffeebuddy.Settings {
	t.Helper()
	is := is.New(t)
	is.Helper()
	for _, name := range []string{"VAULT_NAMESPACE", "VAULT_CACERT"} {
		t.Setenv(name, "") // those of whoever runs the test
	}
	for name, value := range object[corev1.ConfigMap](t, knative).Data {
		t.Setenv(name, value)
	}
	for _, e := range c.Env {
		value := e.Value
		if e.ValueFrom != nil {
			value = "a-token"
		}
		t.Setenv(e.Name, value)
	}
	s, err := coffeebuddy.Load()
	is.NoErr(err)
	return s
}

// The rest of the tests hold for what these settings are.
func TestTheFunctionTakesTheSettings(t *testing.T) {
	is := is.New(t)
	s := settings(t, container(t, pod(t, knative).Spec, "coffeebuddy"))
	is.Equal(len(s.Vault.Wrong)+len(s.Ory.Wrong)+len(s.Unknown), 0)
	is.Equal(s.Environment, "prod") // only the Slack routes speak for Slack there
	is.Equal(s.HTTPHost, "0.0.0.0") // kubelet and Prometheus come to the pod's address
	_, explicit := object[corev1.ConfigMap](t, knative).Data["COFFEEBUDDY_READY_GRACE"]
	is.True(explicit)
}

func TestTimeoutsAgree(t *testing.T) {
	is := is.New(t)
	service := object[servingv1.Service](t, knative)
	s := settings(t, container(t, pod(t, knative).Spec, "coffeebuddy"))
	seconds := func(n *int64) time.Duration { return time.Duration(*n) * time.Second }

	// Knative kills a pod timeoutSeconds after it began to stop it.
	is.True(seconds(service.Spec.Template.Spec.TimeoutSeconds) >= queueDrain+s.ShutdownTimeout+margin)
	is.Equal(*pod(t, knative).Spec.TerminationGracePeriodSeconds, *service.Spec.Template.Spec.TimeoutSeconds)
	// The function's own answers, a 408 or a 503, come before queue-proxy's 504.
	is.True(seconds(service.Spec.Template.Spec.ResponseStartTimeoutSeconds) >= bodyTimeout+s.EventTimeout+margin)
	is.True(*service.Spec.Template.Spec.ResponseStartTimeoutSeconds <= *service.Spec.Template.Spec.TimeoutSeconds)
	// An event that has come is answered before the function gives up on shutdown.
	is.True(s.ShutdownTimeout > s.EventTimeout)

	d := object[appsv1.Deployment](t, knativePlain)
	pause := time.Duration(container(t, d.Spec.Template.Spec, "coffeebuddy").Lifecycle.PreStop.Sleep.Seconds) * time.Second
	is.True(seconds(d.Spec.Template.Spec.TerminationGracePeriodSeconds) >= pause+s.ShutdownTimeout+margin)
	// By the time the pause is over the readiness probe, too, would have taken the pod out.
	probe := container(t, d.Spec.Template.Spec, "coffeebuddy").ReadinessProbe
	is.True(pause >= time.Duration(probe.PeriodSeconds*probe.FailureThreshold)*time.Second)
}

func TestScaleAgrees(t *testing.T) {
	is := is.New(t)
	service := object[servingv1.Service](t, knative)
	s := settings(t, container(t, pod(t, knative).Spec, "coffeebuddy"))
	target, err := strconv.Atoi(service.Spec.Template.Annotations["autoscaling.knative.dev/target"])
	is.NoErr(err)
	is.True(target < s.EventsInFlight) // a pod is added before one refuses
	is.Equal(*service.Spec.Template.Spec.ContainerConcurrency, int64(0))

	for _, p := range []corev1.PodTemplateSpec{pod(t, knative), pod(t, knativeZero), object[appsv1.Deployment](t, knativePlain).Spec.Template} {
		c := container(t, p.Spec, "coffeebuddy")
		goLimit, err := resource.ParseQuantity(variable(c, "GOMEMLIMIT")[:len("224Mi")]) // Go writes MiB where Kubernetes writes Mi
		is.NoErr(err)
		is.Equal(goLimit.Value(), c.Resources.Limits.Memory().Value()*7/8)
	}
}

// One pod is described three times: what can be the same is.
func TestDeploymentAgreesWithTheService(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := object[appsv1.Deployment](t, knativePlain)
	service := object[servingv1.Service](t, knative)
	got, want := d.Spec.Template.Spec.Containers[0], service.Spec.Template.Spec.Containers[0]

	is.Equal(got.Env, want.Env)
	is.Equal(got.ReadinessProbe.HTTPGet.Path, want.ReadinessProbe.HTTPGet.Path)
	is.Equal(got.LivenessProbe.HTTPGet.Path, want.LivenessProbe.HTTPGet.Path)
	is.Equal(got.Ports, want.Ports)
	is.Equal(got.Resources, want.Resources)
	is.Equal(got.SecurityContext, want.SecurityContext)
	is.Equal(got.EnvFrom, want.EnvFrom)
	is.Equal(got.Image, want.Image)
	restricted(t, d.Spec.Template.Spec, got)
	is.Equal(*d.Spec.Template.Spec.AutomountServiceAccountToken, false)
	is.Equal(*d.Spec.Template.Spec.EnableServiceLinks, false)
	for _, a := range []string{"prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path"} {
		is.Equal(d.Spec.Template.Annotations[a], service.Spec.Template.Annotations[a])
	}
	is.Equal(d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), 0)
	is.Equal(fmt.Sprintf("%ds", *d.Spec.ProgressDeadlineSeconds), service.Spec.Template.Annotations["serving.knative.dev/progress-deadline"])

	s := object[corev1.Service](t, knativePlain)
	is.Equal(s.Spec.Selector, d.Spec.Selector.MatchLabels)
	is.Equal(d.Spec.Template.Labels, d.Spec.Selector.MatchLabels)
	is.Equal(s.Spec.Ports[0].TargetPort.String(), got.Ports[0].Name)
}

func TestNamesPortsAndPathsAgree(t *testing.T) {
	is := is.New(t)
	service := object[servingv1.Service](t, knative)
	s := settings(t, container(t, pod(t, knative).Spec, "coffeebuddy"))
	objects, err := Read(knative)
	is.NoErr(err)
	namespace, err := Find[corev1.Namespace](objects)
	is.NoErr(err)
	account, err := Find[corev1.ServiceAccount](objects)
	is.NoErr(err)
	is.Equal(service.Namespace, namespace.Name)
	is.Equal(account.Namespace+" "+account.Name, service.Namespace+" "+service.Spec.Template.Spec.ServiceAccountName)
	is.Equal(*account.AutomountServiceAccountToken, false)
	is.Equal(service.Spec.Template.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name, object[corev1.ConfigMap](t, knative).Name)
	is.Equal(service.Name, s.AppName)
	is.Equal(service.Labels["networking.knative.dev/visibility"], "cluster-local") // Kong is the only edge
	is.Equal(int(service.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort), s.Port)
	is.Equal(service.Spec.Template.Annotations["prometheus.io/port"], strconv.Itoa(s.Port))
	is.Equal(service.Spec.Template.Annotations["prometheus.io/path"], s.MetricsPath)

	function := pod(t, knative)
	policy := object[networkingv1.NetworkPolicy](t, "../../../knative/network-policy")
	monitor := object[monitoring.PodMonitor](t, "../../../knative/pod-monitor")
	for _, selector := range []map[string]string{policy.Spec.PodSelector.MatchLabels, monitor.Spec.Selector.MatchLabels} {
		is.True(len(selector) > 0)
		for label, value := range selector {
			is.Equal(function.Labels[label], value)
		}
	}
	is.Equal(*monitor.Spec.PodMetricsEndpoints[0].Port, container(t, function.Spec, "coffeebuddy").Ports[0].Name)
	is.Equal(monitor.Spec.PodMetricsEndpoints[0].Path, s.MetricsPath)
	is.Equal(policy.Namespace+" "+monitor.Namespace, service.Namespace+" "+service.Namespace)
	is.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress})
}

func TestTheNetworkPolicyLetsInWhatKnativeNeeds(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	open := map[int]bool{}
	for _, rule := range object[networkingv1.NetworkPolicy](t, "../../../knative/network-policy").Spec.Ingress {
		is.True(len(rule.From) > 0 && len(rule.Ports) > 0) // a rule without one of them lets anybody in, or anywhere
		for _, p := range rule.Ports {
			open[p.Port.IntValue()] = true
		}
	}
	queue := container(t, pod(t, knative).Spec, "queue-proxy")
	for _, p := range queue.Ports {
		switch p.Name {
		case "queue-port", "https-port", "http-autometric":
			is.True(open[int(p.ContainerPort)])
			delete(open, int(p.ContainerPort))
		}
	}
	is.Equal(open, map[int]bool{8080: true, 15008: true}) // and Prometheus and the mesh's tunnel, nothing else
}

// Of the two pods without Knative, one stays when a node is drained, and a policy and a budget that select nothing are none.
func TestTwoPodsAreKeptApartAndOneStays(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := object[appsv1.Deployment](t, knativePlain)
	labels := d.Spec.Template.Labels
	budget := object[policyv1.PodDisruptionBudget](t, knativePlain)
	policy := object[networkingv1.NetworkPolicy](t, "../../../kubernetes/network-policy")
	is.Equal(budget.Spec.Selector.MatchLabels, labels)
	is.Equal(policy.Spec.PodSelector.MatchLabels, labels)
	is.True(int(*d.Spec.Replicas) > budget.Spec.MaxUnavailable.IntValue())
	is.Equal(*budget.Spec.UnhealthyPodEvictionPolicy, policyv1.AlwaysAllow)
	var spread []string
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		is.Equal(c.LabelSelector.MatchLabels, labels)
		spread = append(spread, c.TopologyKey)
	}
	is.Equal(spread, []string{corev1.LabelHostname, corev1.LabelTopologyZone})
	for _, rule := range policy.Spec.Ingress {
		is.True(len(rule.From) > 0 && len(rule.Ports) > 0)
		is.Equal(rule.Ports[0].Port.IntVal, d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort)
	}
}

// The files that both folders have are copies, since symbolic links do not survive every checkout.
func TestBothFoldersHaveTheSameSettings(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, name := range []string{"100-namespace.yaml", "200-service-account.yaml", "300-config.yaml"} {
		one, err := os.ReadFile(knative + "/" + name)
		is.NoErr(err)
		other, err := os.ReadFile(knativePlain + "/" + name)
		is.NoErr(err)
		is.Equal(string(one), string(other))
	}
}

func TestFuncYAMLAgreesWithTheService(t *testing.T) {
	is := is.New(t)
	text, err := os.ReadFile("../../../func.yaml")
	is.NoErr(err)
	var f struct {
		Name, Namespace string
		Run             struct {
			Envs []struct{ Name, Value string }
		}
		Deploy struct {
			ServiceAccountName string
			Labels             []struct{ Key, Value string }
			Annotations        map[string]string
			HealthEndpoints    struct{ Liveness, Readiness string }
			Options            struct {
				Scale     struct{ Min, Max, Target int }
				Resources struct {
					Requests struct{ CPU, Memory string }
					Limits   struct{ Memory string }
				}
			}
		}
	}
	is.NoErr(yaml.Unmarshal(text, &f))
	service := object[servingv1.Service](t, knative)
	template, c := service.Spec.Template, service.Spec.Template.Spec.Containers[0]
	is.Equal(f.Namespace+" "+f.Name, service.Namespace+" "+service.Name)
	is.Equal(f.Deploy.ServiceAccountName, template.Spec.ServiceAccountName)
	is.Equal(f.Deploy.HealthEndpoints.Readiness, c.ReadinessProbe.HTTPGet.Path)
	is.Equal(f.Deploy.HealthEndpoints.Liveness, c.LivenessProbe.HTTPGet.Path)
	is.Equal(f.Deploy.Labels[0].Key+" "+f.Deploy.Labels[0].Value, "networking.knative.dev/visibility cluster-local")
	for name, value := range f.Deploy.Annotations {
		is.Equal(value, template.Annotations[name])
	}
	is.Equal(len(f.Deploy.Annotations), 3)
	is.Equal(strconv.Itoa(f.Deploy.Options.Scale.Min), template.Annotations["autoscaling.knative.dev/min-scale"])
	is.Equal(strconv.Itoa(f.Deploy.Options.Scale.Max), template.Annotations["autoscaling.knative.dev/max-scale"])
	is.Equal(strconv.Itoa(f.Deploy.Options.Scale.Target), template.Annotations["autoscaling.knative.dev/target"])
	is.Equal(f.Deploy.Options.Resources.Requests.CPU, c.Resources.Requests.Cpu().String())
	is.Equal(f.Deploy.Options.Resources.Requests.Memory, c.Resources.Requests.Memory().String())
	is.Equal(f.Deploy.Options.Resources.Limits.Memory, c.Resources.Limits.Memory().String())

	// What func takes from the cluster is what the Service takes.
	config, secret := c.EnvFrom[0].ConfigMapRef.Name, c.Env[0].ValueFrom.SecretKeyRef
	is.Equal(len(f.Run.Envs), 5)
	for _, e := range f.Run.Envs {
		switch e.Name {
		case "GOMEMLIMIT":
			is.Equal(e.Value, variable(c, e.Name))
		case "VAULT_TOKEN":
			is.Equal(e.Value, fmt.Sprintf("{{ secret:%s:%s }}", secret.Name, secret.Key))
		case "COFFEEBUDDY_ENVIRONMENT", "VAULT_ADDR", "ORY_BASE_URL":
			is.Equal(e.Value, fmt.Sprintf("{{ configMap:%s:%s }}", config, e.Name))
			_, there := object[corev1.ConfigMap](t, knative).Data[e.Name]
			is.True(there) // else func refuses to deploy
		default:
			t.Errorf("%s comes from nowhere", e.Name)
		}
	}
}

// Knative refuses these ports for the function's own. The function does so for the one that Knative cannot see: queue-proxy,
// which has the same loopback, would not start.
func TestDebuggingTakesNoPortOfQueueProxy(t *testing.T) {
	is := is.New(t)
	settings(t, container(t, pod(t, knative).Spec, "coffeebuddy")) // puts back what Load takes out
	ports := []int{
		networking.BackendHTTPPort, networking.BackendHTTP2Port, networking.BackendHTTPSPort, networking.QueueAdminPort,
		networking.AutoscalingQueueMetricsPort, networking.UserQueueMetricsPort, runtime.ProfilingDefaultPort,
	}
	for _, p := range container(t, pod(t, knative).Spec, "queue-proxy").Ports {
		ports = append(ports, int(p.ContainerPort))
	}
	for _, port := range ports {
		t.Setenv("COFFEEBUDDY_DEBUG_ADDR", fmt.Sprintf("127.0.0.1:%d", port))
		_, err := coffeebuddy.Load()
		is.True(err != nil)
		is.True(strings.HasPrefix(err.Error(), "COFFEEBUDDY_DEBUG_ADDR: must be no port of Knative's queue-proxy"))
	}
	t.Setenv("COFFEEBUDDY_DEBUG_ADDR", "127.0.0.1:6060") // as docs/operations.md says
	_, err := coffeebuddy.Load()
	is.NoErr(err)
}

// No manifest names a server on the Internet.
func TestDependenciesAreInTheCluster(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, name := range []string{"VAULT_ADDR", "ORY_BASE_URL"} {
		u, err := url.Parse(object[corev1.ConfigMap](t, knative).Data[name])
		is.NoErr(err)
		is.Equal(u.Hostname()[len(u.Hostname())-len(".svc.cluster.local"):], ".svc.cluster.local")
	}
}
