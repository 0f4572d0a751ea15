package coffeebuddy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"coffeebuddy"
)

// An Instance is what func's scaffolding serves.
func ExampleNew() {
	instance := coffeebuddy.New()
	w := httptest.NewRecorder()
	instance.Handle(w, httptest.NewRequest(http.MethodGet, "/health/live", nil))
	fmt.Print(w.Body)
	// Output: {"status":"live"}
}
