//go:build !linux

package queueproxy

import "errors"

func (n namespace) within(func() error) error { return errNotHere() }
func again() (int, error)                     { return 1, errNotHere() }
func hideNamespaces() error                   { return errNotHere() }
func inOwnMounts() bool                       { return false }

// errNotHere is for what only Linux has.
func errNotHere() error { return errors.New("there are no network namespaces here") }
