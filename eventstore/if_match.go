package eventstore

import (
	"strconv"
	"strings"
)

// ParseIfMatch reads the values of an If-Match header as an expectation. A value is an entity tag that is a version, "3"
// with or without its quotes, or * for any existing stream; "0" means that the stream must not exist. None is Any.
func ParseIfMatch(values []string) (Expect, error) {
	switch {
	case len(values) == 0:
		return Any, nil
	case len(values) > 1:
		return 0, invalidf("If-Match is given %d times, give it once", len(values))
	case values[0] == "*":
		return Exists, nil
	}
	text := values[0]
	if len(text) >= 2 && strings.HasPrefix(text, `"`) && strings.HasSuffix(text, `"`) {
		text = text[1 : len(text)-1]
	}
	v, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, invalidf("If-Match %s is not a version, such as \"3\", nor *", values[0])
	}
	return Exactly(v), nil
}
