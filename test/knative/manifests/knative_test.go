package manifests

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/matryer/is"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

const (
	knative      = "../../../knative"
	knativeZero  = "../../../knative/scale-to-zero"
	knativePlain = "../../../kubernetes"
)

// object returns the object of type T in a folder.
func object[T any](t *testing.T, folder string) *T {
	t.Helper()
	is := is.New(t)
	is.Helper()
	objects, err := Read(folder)
	is.NoErr(err)
	found, err := Find[T](objects)
	is.NoErr(err)
	return found
}

// pod returns the pod that Knative makes of the Service in a folder.
func pod(t *testing.T, folder string) corev1.PodTemplateSpec {
	t.Helper()
	is := is.New(t)
	is.Helper()
	s := object[servingv1.Service](t, folder)
	is.NoErr(Admit(s))
	d, err := Deployment(s)
	is.NoErr(err)
	return d.Spec.Template
}

func container(t *testing.T, pod corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	for _, c := range pod.Containers {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no container %s", name)
	return corev1.Container{}
}

func TestKoAppliesTheseObjectsInThisOrder(t *testing.T) {
	t.Parallel()
	tests := map[string][]any{
		knative: {&corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.ConfigMap{}, &servingv1.Service{}},
		knativePlain: {
			&corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.ConfigMap{}, &appsv1.Deployment{},
			&corev1.Service{}, &policyv1.PodDisruptionBudget{},
		},
		"../../../kubernetes/network-policy": {&networkingv1.NetworkPolicy{}},
		knativeZero:                          {&servingv1.Service{}},
		"../../../knative/eventing":          {&sourcesv1.SinkBinding{}, &eventingv1.Trigger{}, &eventingv1.Trigger{}},
		"../../../kubernetes/eventing":       {&sourcesv1.SinkBinding{}, &eventingv1.Trigger{}, &eventingv1.Trigger{}},
		"../../../knative/pod-monitor":       {&monitoring.PodMonitor{}},
		"../../../knative/network-policy":    {&networkingv1.NetworkPolicy{}},
	}
	for folder, want := range tests {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			objects, err := Read(folder)
			is.NoErr(err)
			is.Equal(len(objects), len(want))
			for i := range want {
				is.Equal(typeName(objects[i]), typeName(want[i]))
			}
			entries, err := os.ReadDir(folder)
			is.NoErr(err)
			for _, e := range entries { // ko would skip a .yml without a word, and apply a .json
				is.True(e.IsDir() || strings.HasSuffix(e.Name(), ".yaml"))
			}
		})
	}
}

func TestKnativeAdmitsTheServiceWithoutAWarning(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{knative, knativeZero} {
		is.New(t).NoErr(Admit(object[servingv1.Service](t, folder)))
	}
}

func TestMistakesInTheServiceAreFound(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(knative + "/400-service.yaml")
	is.New(t).NoErr(err)
	tests := []struct{ mistake, old, new, want string }{
		{"a field that is not there", "containerConcurrency:", "containerConcurency:", "unknown field"},
		{"a key twice", "enableServiceLinks: false", "enableServiceLinks: false\n      enableServiceLinks: true", "already set"},
		{"an autoscaling annotation beside the template", "visibility: cluster-local", "visibility: cluster-local\n  annotations:\n    autoscaling.knative.dev/min-scale: \"1\"", "autoscaling.knative.dev/min-scale"},
		{"a reserved variable", "name: GOMEMLIMIT", "name: PORT", "reserved environment variable"},
		{"a reserved port", "containerPort: 8080", "containerPort: 8012", "8012"},
		{"a grace period of the user's", "enableServiceLinks: false", "terminationGracePeriodSeconds: 90", "must not set the field"},
		{"a pod's security context, which needs a feature flag", "enableServiceLinks: false", "securityContext: {runAsNonRoot: true}", "securityContext"},
		{"a threshold without a period", "path: /health/ready", "path: /health/ready\n            failureThreshold: 2", "failureThreshold"},
		{"no security context at all: a warning", "runAsNonRoot: true", "procMount: Default", "insecure"},
	}
	for _, tt := range tests {
		t.Run(tt.mistake, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			is.Equal(strings.Count(string(text), tt.old), 1) // the mistake can be planted
			decoded, err := Decode([]byte(strings.Replace(string(text), tt.old, tt.new, 1)))
			if err == nil {
				err = Admit(decoded.(*servingv1.Service))
			}
			is.True(err != nil)
			is.True(strings.Contains(err.Error(), tt.want))
		})
	}
}

func TestThePodThatKnativeMakes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	template := pod(t, knative)
	function := container(t, template.Spec, "coffeebuddy")
	queue := container(t, template.Spec, "queue-proxy")

	// Readiness is asked by queue-proxy, at the function's own path and without a period: every 50 ms until it is 200.
	is.Equal(function.ReadinessProbe, nil)
	is.Equal(variable(queue, "SERVING_READINESS_PROBE"),
		`{"httpGet":{"path":"/health/ready","port":8080,"host":"127.0.0.1","scheme":"HTTP"},"successThreshold":1}`)
	is.Equal(variable(queue, "USER_PORT"), "8080")
	is.Equal(variable(queue, "CONTAINER_CONCURRENCY"), "0")
	is.Equal(variable(queue, "ENABLE_HTTP_FULL_DUPLEX"), "false") // else answers to bodies that are too large get lost on the way

	// Liveness is asked by kubelet, at the pod's address.
	is.Equal(function.LivenessProbe.HTTPGet.Path, "/health/live")
	is.Equal(function.LivenessProbe.HTTPGet.Port.IntValue(), 8080)
	is.Equal(function.LivenessProbe.HTTPGet.Host, "")
	is.Equal(variable(function, "PORT"), "8080")

	// Prometheus finds the pod by its annotations; what steers the autoscaler does not get there.
	is.Equal(template.Annotations["prometheus.io/scrape"], "true")
	is.Equal(template.Annotations["prometheus.io/port"], "8080")
	is.Equal(template.Annotations["prometheus.io/path"], "/metrics")
	is.Equal(template.Labels["serving.knative.dev/service"], "coffeebuddy")

	restricted(t, template.Spec, function)
	is.Equal(*template.Spec.AutomountServiceAccountToken, false)
	is.Equal(template.Spec.ServiceAccountName, "coffeebuddy")
	is.Equal(*template.Spec.EnableServiceLinks, false)
	is.Equal(function.Resources.Limits.Memory().String(), "256Mi")
	is.True(function.Resources.Limits.Cpu().IsZero()) // a limit would slow down the start
	is.Equal(function.Image, "ko://coffeebuddy/function")
}

// restricted checks what the namespace demands of a container (Kubernetes' Pod Security Standards, restricted), and a read-only
// root. The cluster's own admission is the judge; this one is there without a cluster.
func restricted(t *testing.T, pod corev1.PodSpec, c corev1.Container) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	s := c.SecurityContext
	is.Equal(*s.RunAsNonRoot, true)
	is.Equal(*s.RunAsUser, int64(65532)) // the user of the base image
	is.Equal(*s.AllowPrivilegeEscalation, false)
	is.Equal(*s.ReadOnlyRootFilesystem, true)
	is.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"})
	is.Equal(len(s.Capabilities.Add), 0)
	is.Equal(s.SeccompProfile.Type, corev1.SeccompProfileTypeRuntimeDefault)
	is.True(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC)
}

func TestNoSecretIsInAManifest(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	pods := []corev1.PodTemplateSpec{pod(t, knative), pod(t, knativeZero), object[appsv1.Deployment](t, knativePlain).Spec.Template}
	for _, p := range pods {
		token := 0
		for _, e := range container(t, p.Spec, "coffeebuddy").Env {
			if e.Name != "VAULT_TOKEN" {
				continue
			}
			token++
			is.Equal(e.Value, "")
			is.Equal(e.ValueFrom.SecretKeyRef.Name+" "+e.ValueFrom.SecretKeyRef.Key, "coffeebuddy-vault token")
			is.True(*e.ValueFrom.SecretKeyRef.Optional) // where the function logs in to Vault there is none
		}
		is.Equal(token, 1)
	}
	for name := range object[corev1.ConfigMap](t, knative).Data {
		is.True(!strings.Contains(name, "TOKEN") && !strings.Contains(name, "SECRET") && !strings.Contains(name, "PASSWORD"))
	}
}

// TestTheLoginToVaultFindsItsFile: by default, and with the service account that docs/identity.md has Vault's administrator bind.
func TestTheLoginToVaultFindsItsFile(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	pods := []corev1.PodTemplateSpec{pod(t, knative), pod(t, knativeZero), object[appsv1.Deployment](t, knativePlain).Spec.Template}
	for _, p := range pods {
		is.Equal(len(p.Spec.Volumes), 1)
		sources := p.Spec.Volumes[0].Projected.Sources
		is.Equal(len(sources), 1)
		token := sources[0].ServiceAccountToken
		is.Equal(token.Audience, "vault")
		is.Equal(*token.ExpirationSeconds, int64(600)) // the shortest that Kubernetes gives
		mounts := container(t, p.Spec, "coffeebuddy").VolumeMounts
		is.Equal(len(mounts), 1)
		is.Equal(mounts[0].Name, p.Spec.Volumes[0].Name)
		is.True(mounts[0].ReadOnly)
		is.Equal(mounts[0].MountPath+"/"+token.Path, "/var/run/secrets/vault/token") // VAULT_JWT_FILE's default
		is.Equal(p.Spec.ServiceAccountName, "coffeebuddy")
	}
}

func TestScaleToZeroIsTheSameServiceButForItsScale(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	want, got := object[servingv1.Service](t, knative), object[servingv1.Service](t, knativeZero)
	is.Equal(got.Spec.Template.Annotations["autoscaling.knative.dev/min-scale"], "0")
	want.Spec.Template.Annotations["autoscaling.knative.dev/min-scale"] = "0"
	want.Spec.Template.Annotations["autoscaling.knative.dev/scale-to-zero-pod-retention-period"] = "5m"
	is.Equal(got, want)
}

func variable(c corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func typeName(v any) string { return fmt.Sprintf("%T", v) }
