// Package manifests reads the project's Kubernetes objects with their real types, and does to its Knative Service what Knative
// does: default and validate it as the webhook would, and make the Deployment that its pods come from.
package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	netconfig "knative.dev/networking/pkg/config"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/logging"
	apiconfig "knative.dev/serving/pkg/apis/config"
	"knative.dev/serving/pkg/deployment"
	"knative.dev/serving/pkg/observability"
	configuration "knative.dev/serving/pkg/reconciler/configuration/resources"
	revisionconfig "knative.dev/serving/pkg/reconciler/revision/config"
	revision "knative.dev/serving/pkg/reconciler/revision/resources"
	service "knative.dev/serving/pkg/reconciler/service/resources"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// types returns the kinds that the project may use, by apiVersion and kind.
func types() map[string]any {
	return map[string]any{
		"v1/Namespace":                        corev1.Namespace{},
		"v1/ServiceAccount":                   corev1.ServiceAccount{},
		"v1/ConfigMap":                        corev1.ConfigMap{},
		"v1/Service":                          corev1.Service{},
		"apps/v1/Deployment":                  appsv1.Deployment{},
		"networking.k8s.io/v1/NetworkPolicy":  networkingv1.NetworkPolicy{},
		"policy/v1/PodDisruptionBudget":       policyv1.PodDisruptionBudget{},
		"serving.knative.dev/v1/Service":      servingv1.Service{},
		"eventing.knative.dev/v1/Trigger":     eventingv1.Trigger{},
		"sources.knative.dev/v1/SinkBinding":  sourcesv1.SinkBinding{},
		"monitoring.coreos.com/v1/PodMonitor": monitoring.PodMonitor{},
	}
}

// Read returns the objects in the YAML files of a folder, in ko's order and by ko's rule: those that end in .yaml, and none of
// sub-folders. A field or kind that is not known, and a key that is there twice, is an error.
func Read(folder string) ([]any, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no manifests in %s: %w", folder, err)
	}
	slices.Sort(files)
	var objects []any
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // a folder of the repository
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			object, err := Decode(document)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}

// Decode returns a pointer to the object that a YAML document is.
func Decode(document []byte) (any, error) {
	var meta struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	kind, ok := types()[meta.APIVersion+"/"+meta.Kind]
	if !ok {
		return nil, fmt.Errorf("unexpected kind %s of %s", meta.Kind, meta.APIVersion)
	}
	object := reflect.New(reflect.TypeOf(kind)).Interface()
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return nil, fmt.Errorf("decode %s: %w", meta.Kind, err)
	}
	return object, nil
}

// Find returns the one object of type T.
func Find[T any](objects []any) (*T, error) {
	var found *T
	for _, o := range objects {
		if o, ok := o.(*T); ok {
			if found != nil {
				return nil, fmt.Errorf("more than one %T", *found)
			}
			found = o
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no %T", *new(T))
	}
	return found, nil
}

// Admit defaults and validates a Service as Knative's webhook does with the default ConfigMaps. Its warnings, which kubectl
// prints, are errors here.
func Admit(s *servingv1.Service) error {
	ctx := apis.WithinCreate(context.Background())
	s.SetDefaults(ctx)
	err := s.Validate(ctx)
	return errors.Join(asError(err.Filter(apis.ErrorLevel)), asError(err.Filter(apis.WarningLevel)))
}

func asError(e *apis.FieldError) error {
	if e == nil {
		return nil // and not a nil in an error
	}
	return e
}

// Deployment returns what Knative makes of an admitted Service's first revision.
func Deployment(s *servingv1.Service) (*appsv1.Deployment, error) {
	s = s.DeepCopy()
	s.Generation = 1
	c := service.MakeConfiguration(s)
	c.Generation = 1
	r := configuration.MakeRevision(context.Background(), c, time.Now())
	for _, container := range r.Spec.Containers {
		r.Status.ContainerStatuses = append(r.Status.ContainerStatuses, servingv1.ContainerStatus{Name: container.Name, ImageDigest: container.Image})
	}
	deploy, err := deployment.NewConfigFromMap(map[string]string{deployment.QueueSidecarImageKey: "queue"})
	if err != nil {
		return nil, fmt.Errorf("read Knative's defaults: %w", err)
	}
	d, err := revision.MakeDeployment(r, &revisionconfig.Config{
		Config:        apiconfig.FromContextOrDefaults(context.Background()),
		Deployment:    deploy,
		Logging:       &logging.Config{},
		Network:       &netconfig.Config{},
		Observability: observability.DefaultConfig(),
	})
	if err != nil {
		return nil, fmt.Errorf("make the Deployment: %w", err)
	}
	return d, nil
}
