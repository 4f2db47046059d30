package tag_test

import (
	"strings"
	"testing"

	"github.com/tributary-es/tributary/commerce/tag"
	"github.com/tributary-es/tributary/eventstore"
)

func TestTagsOfLongReferencesAreTold(t *testing.T) {
	if got := tag.Customer("17850"); got != "customer:17850" {
		t.Errorf("tag is %q, want customer:17850", got)
	}
	long := strings.Repeat("x", 500)
	for _, id := range []string{"", "17850", long, long[1:], strings.Repeat("ü", 250)} {
		if err := eventstore.Tagged(tag.Customer(id)).Validate(); err != nil {
			t.Errorf("tag of a reference of %d bytes: %v", len(id), err)
		}
	}
	if tag.Customer(long) == tag.Customer(long[1:]) {
		t.Error("two references have the same tag")
	}
}
