package node

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What this site's log does not have no answer waits for, of a read model or of the log itself: it is refused at once.
func TestReadAfterWhatTheLogDoesNotHave(t *testing.T) {
	n, stop := runAlone(t, t.TempDir()+"/data")
	defer stop()
	begun := time.Now()
	for _, path := range []string{
		"/v1/carts/C", "/v1/orders/O", "/v1/customers/U/profile", "/v1/customers/U/credit", "/v1/stock/A", "/v1/stock/A/rights", "/v1/vouchers/V", "/v1/order-counts",
		"/v1/streams/cart/C", "/v1/store/log",
	} {
		for token, want := range map[string]int{"1-99999999": http.StatusConflict, "9-1": http.StatusConflict, "soon": http.StatusBadRequest, "shard-00@sh/0/1": http.StatusBadRequest} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.HTTPAddr()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Read-After", token)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Error(err)
			}
			if err := answer.Body.Close(); err != nil {
				t.Error(err)
			}
			if answer.StatusCode != want || !strings.Contains(string(body), "X-Read-After") {
				t.Errorf("%s after %s: %d %s, want %d", path, token, answer.StatusCode, body, want)
			}
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s: something was waited for", took)
	}
}
