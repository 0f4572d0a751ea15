package manifests

import (
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// An eventing is where the objects for Knative Eventing are, and what they are for.
type eventing struct {
	folder     string
	subject    string // what the sink is bound to
	subscriber string // what the broker delivers to
	namespace  string
}

func eventings(t *testing.T) []eventing {
	t.Helper()
	service, deployment, plain := object[servingv1.Service](t, knative), object[appsv1.Deployment](t, knativePlain), object[corev1.Service](t, knativePlain)
	return []eventing{
		{"../../../knative/eventing", "serving.knative.dev/v1 Service " + service.Name, "serving.knative.dev/v1 Service " + service.Name, service.Namespace},
		{"../../../kubernetes/eventing", "apps/v1 Deployment " + deployment.Name, "v1 Service " + plain.Name, plain.Namespace},
	}
}

// TestTriggersAreValidAndLoseNothing, as Knative's webhook has it.
func TestTriggersAreValidAndLoseNothing(t *testing.T) {
	t.Parallel()
	for _, e := range eventings(t) {
		t.Run(e.folder, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			for eventType, trigger := range triggers(t, e.folder) {
				ctx := apis.WithinCreate(t.Context())
				trigger.SetDefaults(ctx)
				is.NoErr(asError(trigger.Validate(ctx))) // eventType
				is.Equal(len(trigger.Spec.Filter.Attributes), 1)
				is.True(eventType != "") // exact: every broker has that
				ref := trigger.Spec.Subscriber.Ref
				is.Equal(ref.APIVersion+" "+ref.Kind+" "+ref.Name, e.subscriber)
				is.Equal(ref.Namespace, e.namespace)
				is.True(*trigger.Spec.Delivery.Retry > 0)
				is.True(trigger.Spec.Delivery.DeadLetterSink != nil)
			}
		})
	}
}

// TestSlackTriggerEndsBeforeTheResponseURL, which lives for 30 minutes: the pauses, and each attempt as long as Knative lets it take.
func TestSlackTriggerEndsBeforeTheResponseURL(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	longest := time.Duration(*object[servingv1.Service](t, knative).Spec.Template.Spec.ResponseStartTimeoutSeconds) * time.Second
	for _, e := range eventings(t) {
		delivery := triggers(t, e.folder)["com.slack.command"].Spec.Delivery
		is.Equal(*delivery.BackoffPolicy, eventingduckv1.BackoffPolicyExponential)
		delay, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(*delivery.BackoffDelay, "PT")))
		is.NoErr(err)
		pause, takes := delay, longest
		for range *delivery.Retry {
			takes += pause + longest
			pause *= 2
		}
		t.Logf("%s: %s", e.folder, takes)
		is.True(takes < 30*time.Minute)
		is.True(takes > 10*time.Minute) // an outage is not lost at once
	}
}

func TestSinkBindingsAreValid(t *testing.T) {
	t.Parallel()
	for _, e := range eventings(t) {
		t.Run(e.folder, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			binding := object[sourcesv1.SinkBinding](t, e.folder)
			ctx := apis.WithinCreate(t.Context())
			binding.SetDefaults(ctx)
			is.NoErr(asError(binding.Validate(ctx)))
			subject := binding.Spec.Subject
			is.Equal(subject.APIVersion+" "+subject.Kind+" "+subject.Name, e.subject)
			is.Equal(subject.Namespace, e.namespace)
			for _, trigger := range triggers(t, e.folder) { // what is sent comes back
				is.Equal(binding.Spec.Sink.Ref.Kind+" "+binding.Spec.Sink.Ref.Name, "Broker "+trigger.Spec.Broker)
				is.Equal(binding.Namespace, trigger.Namespace)
			}
		})
	}
}

// triggers returns the Triggers of a folder by the type that they filter.
func triggers(t *testing.T, folder string) map[string]*eventingv1.Trigger {
	t.Helper()
	objects, err := Read(folder)
	is.New(t).NoErr(err)
	found := make(map[string]*eventingv1.Trigger)
	for _, o := range objects {
		if trigger, ok := o.(*eventingv1.Trigger); ok {
			found[trigger.Spec.Filter.Attributes["type"]] = trigger
		}
	}
	is.New(t).Equal(len(found), 2)
	return found
}
