// Command func is the program that func's scaffolding makes of this project when it
// builds on the host: func-go's HTTP service around the root package's New. It is
// here to be tested; func writes its own.
package main

import (
	"fmt"
	"os"

	"coffeebuddy"

	"knative.dev/func-go/http"
)

func main() {
	if err := http.Start(coffeebuddy.New()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
