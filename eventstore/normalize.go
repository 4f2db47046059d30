package eventstore

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// normalize fills the event's defaults in place and validates it.
func (e *Event) normalize() error {
	if e.SchemaVersion == 0 {
		e.SchemaVersion = 1
	}
	if e.Kind == 0 {
		e.Kind = KindDomain
	}
	if e.Encoding == 0 {
		e.Encoding = Protobuf
	}
	if err := validateType(e.Type); err != nil {
		return err
	}
	switch {
	case e.Kind > KindSystem:
		return invalidf("event kind %d is unknown", e.Kind)
	case e.Encoding > JSON:
		return invalidf("event encoding %d is unknown", e.Encoding)
	case len(e.Payload) > MaxPayloadBytes:
		return fmt.Errorf("%w: payload of %d bytes, the limit is %d", ErrTooLarge, len(e.Payload), MaxPayloadBytes)
	}
	return e.normalizeTags()
}

func (e *Event) normalizeTags() error {
	if len(e.Tags) == 0 {
		e.Tags = nil // as it is read back
		return nil
	}
	tags := slices.Clone(e.Tags)
	slices.Sort(tags)
	e.Tags = slices.Compact(tags)
	if len(e.Tags) > MaxTags {
		return invalidf("event has %d tags, the limit is %d", len(e.Tags), MaxTags)
	}
	for _, tag := range e.Tags {
		if err := validateTag(tag); err != nil {
			return err
		}
	}
	return nil
}

func validateType(name string) error {
	switch {
	case name == "":
		return invalidf("event type is empty")
	case len(name) > MaxTypeBytes:
		return invalidf("event type has %d bytes, the limit is %d", len(name), MaxTypeBytes)
	case !utf8.ValidString(name):
		return invalidf("event type is not valid UTF-8")
	}
	return nil
}

func validateTag(tag string) error {
	if tag == "" || len(tag) > MaxTagBytes || !utf8.ValidString(tag) {
		return invalidf("tag %q must be valid UTF-8 of 1 to %d bytes", tag, MaxTagBytes)
	}
	return nil
}
