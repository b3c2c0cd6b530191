import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;

/**
 * The scenarios' protocol (tests/clients/README.md): requests in order, events in between. Standard output
 * belongs to it; whatever else is printed goes elsewhere.
 */
final class Protocol {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = System.out;

    /** What a program does with a request. */
    interface Commands {
        Object answer(String command, JsonNode request) throws Exception;
    }

    private Protocol() {}

    /** Serves until the requests end; what is printed otherwise goes to `noise`. */
    static void serve(PrintStream noise, Commands commands, Function<Throwable, Integer> codeOf) throws Exception {
        System.setOut(noise);
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            JsonNode request = JSON.readTree(line);
            Map<String, Object> answer = new HashMap<>();
            answer.put("id", request.get("id").asInt());
            try {
                answer.put("ok", commands.answer(request.get("do").asText(), request));
            } catch (Exception failed) {
                Throwable cause = failed instanceof ExecutionException ? failed.getCause() : failed;
                cause.printStackTrace();
                answer.put("error", cause.toString());
                answer.put("code", codeOf.apply(cause));
            }
            say(answer);
        }
        Runtime.getRuntime().halt(0);
    }

    static void event(String name, Map<String, Object> body) {
        Map<String, Object> line = new HashMap<>(body);
        line.put("event", name);
        line.put("at", System.currentTimeMillis() / 1000.0);
        say(line);
    }

    /** Where the harness wants the process to die: says so and waits for it. */
    static void stopAt(String step, JsonNode wanted, int transactions) throws InterruptedException {
        if (!wanted.isNull() && wanted.get("step").asText().equals(step)
                && transactions >= wanted.get("after").asInt()) {
            event("at", Map.of("step", step));
            Thread.sleep(Long.MAX_VALUE);
        }
    }

    private static synchronized void say(Map<String, Object> line) {
        try {
            OUT.println(JSON.writeValueAsString(line));
            OUT.flush();
        } catch (com.fasterxml.jackson.core.JsonProcessingException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
