package queueproxy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/kmeta"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/reconciler/revision/config"
	"knative.dev/serving/pkg/reconciler/revision/resources"
	"sigs.k8s.io/yaml"
)

// A manifest is what Knative runs as a pod of the function, made by its own code of what is in knative/.
type manifest struct {
	function, queue corev1.Container
	grace           time.Duration     // until the pod is killed
	settings        map[string]string // of the ConfigMap
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	var service servingv1.Service
	read(t, "400-service.yaml", &service)
	var settings corev1.ConfigMap
	read(t, "300-config.yaml", &settings)
	deployment, err := render(t.Context(), &service)
	if err != nil {
		t.Fatal(err)
	}
	pod := deployment.Spec.Template.Spec
	m := manifest{
		grace:    time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second,
		settings: settings.Data,
	}
	for _, container := range pod.Containers {
		if container.Name == resources.QueueContainerName {
			m.queue = container
		} else {
			m.function = container
		}
	}
	return m
}

// read reads one object of knative/, and takes no field that its type does not have.
func read(t *testing.T, name string, object any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../knative", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// render returns the Deployment of the Service's first revision, in a Knative with nothing configured.
func render(ctx context.Context, service *servingv1.Service) (*appsv1.Deployment, error) {
	service.SetDefaults(apis.WithinCreate(ctx))
	owner := &servingv1.Configuration{ObjectMeta: metav1.ObjectMeta{Name: service.Name, Namespace: service.Namespace}}
	template := service.Spec.Template.DeepCopy()
	revision := &servingv1.Revision{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	revision.Name, revision.Namespace = service.Name+"-00001", service.Namespace
	revision.OwnerReferences = []metav1.OwnerReference{*kmeta.NewControllerRef(owner)}
	revision.Labels = map[string]string{serving.ServiceLabelKey: service.Name, serving.ConfigurationLabelKey: service.Name}
	revision.SetDefaults(apis.WithinCreate(ctx))

	store := config.NewStore(zap.NewNop().Sugar())
	store.WatchConfigs(configmap.NewStaticWatcher(
		configMap("config-autoscaler", nil),
		configMap("config-defaults", nil),
		configMap("config-deployment", map[string]string{"queue-sidecar-image": "queue"}),
		configMap("config-features", nil),
		configMap("config-logging", nil),
		configMap("config-network", nil),
		configMap("config-observability", nil),
	))
	return resources.MakeDeployment(revision, store.Load())
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

// environment returns the variables of a container, as kubelet makes them: values and what it looks up, by name. One that is neither
// in the manifest nor looked up is an error.
func (m manifest) environment(container corev1.Container, lookedUp map[string]string) ([]string, error) {
	var env []string
	if len(container.EnvFrom) > 0 {
		for name, value := range m.settings {
			env = append(env, name+"="+value)
		}
	}
	for _, variable := range container.Env {
		value, found := lookedUp[variable.Name]
		if variable.ValueFrom == nil {
			value, found = variable.Value, true
		}
		if !found {
			return nil, fmt.Errorf("%s of container %s comes from elsewhere: %v", variable.Name, container.Name, variable.ValueFrom)
		}
		env = append(env, variable.Name+"="+value)
	}
	return env, nil
}

// valueOf returns the value of a variable that has one in the manifest.
func valueOf(env []corev1.EnvVar, name string) string {
	for _, variable := range env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}
