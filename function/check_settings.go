package main

import (
	"errors"
	"slices"

	"coffeebuddy"
)

// The states of a variable. One that is not set and need not be is not shown.
const (
	stateSet     = "set"
	stateWrong   = "wrong"   // missing ones included
	stateUnknown = "unknown" // it looks like one of the function's and means nothing
)

// A variable is what function check says of one variable of the environment.
type variable struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Value string `json:"value,omitempty"` // of one that is set, a secret redacted
	Why   string `json:"why,omitempty"`   // of one that is wrong: what is allowed
}

// judge returns what there is to say of the variables. The error is Load's.
func judge(settings coffeebuddy.Settings, loaded error) []variable {
	variables := []variable{} // an array in JSON, too
	for _, p := range problems(settings, loaded) {
		variables = append(variables, variable{Name: p.Variable, State: stateWrong, Why: p.Why})
	}
	shown := settings.Shown()
	for _, name := range settings.Set {
		if !slices.ContainsFunc(variables, func(v variable) bool { return v.Name == name }) {
			variables = append(variables, variable{Name: name, State: stateSet, Value: shown[name]})
		}
	}
	for _, name := range slices.Concat(settings.Unknown, settings.Ignored) {
		variables = append(variables, variable{Name: name, State: stateUnknown})
	}
	return variables
}

// problems returns all that is wrong with variables.
func problems(settings coffeebuddy.Settings, loaded error) []coffeebuddy.Problem {
	var found []coffeebuddy.Problem
	if joined, ok := loaded.(interface{ Unwrap() []error }); ok { // the parts of errors.Join
		for _, err := range joined.Unwrap() {
			if p, ok := errors.AsType[coffeebuddy.Problem](err); ok {
				found = append(found, p)
			}
		}
	}
	return slices.Concat(found, settings.Vault.Wrong, settings.Ory.Wrong)
}
