//go:build !linux

package queueproxy

import "errors"

// within fails: only Linux has network namespaces.
func (n namespace) within(func() error) error {
	return errors.New("there are no network namespaces here")
}
