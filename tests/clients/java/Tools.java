import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command line tools, one after the other in one JVM: each runs through its own `main`, as its script
 * would run it, with standard input, output and error of its own and an exit that ends only the tool. A tool
 * that leaves work to the hooks of its process is not for this.
 */
public final class Tools {
    // Put in place once: Scala's Console keeps the stream that it first sees.
    private static final ByteArrayOutputStream OUT = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream ERR = new ByteArrayOutputStream();

    /** Ends a tool. Some catch even this and exit again: the first status is the one that a script would see. */
    private static final class Exited extends Error {
        private static final long serialVersionUID = 1;
    }

    private static Integer first;

    private Tools() {}

    public static void main(String[] arguments) throws Exception {
        Exit.Procedure exit = (status, message) -> {
            first = first == null ? status : first;
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        System.setErr(new PrintStream(ERR, true));
        Protocol.serve(new PrintStream(OUT, true), (command, request) -> run(request), error -> null);
    }

    private static Map<String, Object> run(JsonNode request) throws Exception {
        List<String> arguments = new ArrayList<>();
        request.get("arguments").forEach(each -> arguments.add(each.asText()));
        OUT.reset();
        ERR.reset();
        System.setIn(new ByteArrayInputStream(request.path("input").asText("").getBytes()));
        first = null;
        int failed = 0;
        try {
            Class.forName(request.get("tool").asText()).getMethod("main", String[].class)
                .invoke(null, (Object) arguments.toArray(new String[0]));
        } catch (InvocationTargetException ended) {
            if (first == null) {
                ended.getCause().printStackTrace();
                failed = 1;
            }
        }
        return Map.of("status", first == null ? failed : first, "out", OUT.toString(), "err", ERR.toString());
    }
}
