package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/queries"
)

// commandRoute makes a handler of a command's type: the body, then the variables of the path, fill a new value of it.
func commandRoute(bus *commands.Bus, prototype any) (server.Call, error) {
	t := reflect.TypeOf(prototype)
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("a command is a struct, not %T", prototype)
	}
	return func(ctx context.Context, r *http.Request) (any, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		cmd := reflect.New(t)
		if err := fill(cmd.Interface(), body, r); err != nil {
			return nil, err
		}
		meta, err := server.Meta(r)
		if err != nil {
			return nil, err
		}
		if meta.ID != "" {
			meta.Hash = sha256.Sum256(append([]byte(t.String()+" "+r.URL.Path+" "), body...))
		}
		receipt, err := bus.Dispatch(ctx, meta, cmd.Elem().Interface())
		if err != nil && !errors.Is(err, eventstore.ErrDurabilityTimeout) {
			return nil, err
		}
		return server.Positioned{Answer: receiptOf(receipt), Position: receipt.Position.String(), Session: receipt.Dot.String()}, err
	}, nil
}

var routeVariable = regexp.MustCompile(`\{([a-zA-Z_]+)\}`)

// fill decodes the body strictly, and adds what the path names.
func fill(cmd any, body []byte, r *http.Request) error {
	if len(bytes.TrimSpace(body)) > 0 {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(cmd); err != nil {
			return fmt.Errorf("%w: body: %w", eventstore.ErrInvalid, plainJSONError(err))
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: body: more than one JSON value", eventstore.ErrInvalid)
		}
	}
	for _, m := range routeVariable.FindAllStringSubmatch(r.Pattern, -1) {
		name := m[1]
		if err := setByJSONName(reflect.ValueOf(cmd).Elem(), name, r.PathValue(name)); err != nil {
			return fmt.Errorf("%w: path: %s: %w", eventstore.ErrInvalid, name, err)
		}
	}
	return nil
}

// plainJSONError says of a field of another type what the sender can understand.
func plainJSONError(err error) error {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		return fmt.Errorf("%s: a %s does not fit", cmp.Or(typed.Field, "the value"), typed.Value)
	}
	return err
}

func setByJSONName(v reflect.Value, name, text string) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		jsonName, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || !strings.EqualFold(cmp.Or(jsonName, f.Name), name) {
			continue
		}
		switch f.Type.Kind() {
		case reflect.String:
			return setOnce(v.Field(i), reflect.ValueOf(text))
		case reflect.Int, reflect.Int64:
			number, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fmt.Errorf("%q is not a number", text)
			}
			return setOnce(v.Field(i), reflect.ValueOf(number))
		}
		return fmt.Errorf("a %s cannot come from the path", f.Type)
	}
	return errors.New("the command has no such field")
}

// setOnce sets a field that the path names. A body that says otherwise is refused rather than overruled.
func setOnce(field, value reflect.Value) error {
	value = value.Convert(field.Type())
	if !field.IsZero() && !field.Equal(value) {
		return fmt.Errorf("it is %v in the path and %v in the body; leave it out of the body", value, field)
	}
	field.Set(value)
	return nil
}

// awaitPosition waits for the position that a request names, if it names one, and returns the one that is then answered from.
func awaitPosition(ctx context.Context, progress queries.Progress, r *http.Request) (eventstore.Position, error) {
	var want eventstore.Position
	if token := cmp.Or(r.Header.Get("X-Read-After"), r.URL.Query().Get("read_after")); token != "" {
		var err error
		if want, err = eventstore.ParsePosition(token); err != nil {
			return want, fmt.Errorf("position to read after: %w", err)
		}
	}
	return queries.Fresh(ctx, progress, want, 0)
}
