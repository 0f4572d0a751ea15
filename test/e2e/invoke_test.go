package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/matryer/is"
)

const helloWorld = `{"message":"Hello World"}` // what func invoke sends unless told otherwise

// func invoke posts JSON, prints the body that it gets, and fails above 299.
func TestFuncInvokePrintsTheAnswer(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := start(t)
	for _, target := range []string{f.url, f.url + "/"} { // --target, as its users write it
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(helloWorld))
		is.NoErr(err)
		request.Header.Set("Content-Type", "application/json")
		response, err := f.client.Do(request)
		is.NoErr(err)
		printed, err := io.ReadAll(response.Body)
		is.NoErr(err)
		is.NoErr(response.Body.Close())
		is.True(response.StatusCode <= 299)
		is.True(strings.HasPrefix(string(printed), `{"message":{"message":"Hello World"},"app":"coffeebuddy","environment":"dev","version":"`))
		is.True(strings.HasSuffix(string(printed), "}\n")) // func adds no newline
	}
}

// func invoke -f cloudevent sends an event by the CloudEvents SDK's client, and prints the event that it gets. It prints nothing,
// and does not fail, for anything else.
func TestFuncInvokeWithAnEventPrintsTheReply(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := start(t)
	event := cloudevents.NewEvent()
	event.SetID("f1c5a4c6-7a4e-4bd3-9a4c-3c0f8c6b9a55")
	event.SetSource("/boson/fn")
	event.SetType("boson.fn")
	is.NoErr(event.SetData("application/json", json.RawMessage(helloWorld)))

	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(f.url), cloudevents.WithRoundTripper(f.client.Transport))
	is.NoErr(err)
	reply, result := client.Request(cloudevents.ContextWithTarget(t.Context(), f.url), event)
	is.True(!cloudevents.IsUndelivered(result))
	is.True(reply != nil) // else nothing is printed
	printed := reply.String()
	for _, line := range []string{
		"Context Attributes,\n", "  specversion: 1.0\n", "  type: coffeebuddy.echo\n", "  source: //coffeebuddy/coffeebuddy\n",
		"  datacontenttype: application/json\n", "Data,\n", `"message": "Hello World"`, `"environment": "dev"`,
	} {
		is.True(strings.Contains(printed, line))
	}
	is.NoErr(reply.Validate())
}
