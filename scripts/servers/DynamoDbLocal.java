import com.amazonaws.services.dynamodbv2.local.main.ServerRunner;
import com.amazonaws.services.dynamodbv2.local.server.DynamoDBProxyServer;
import java.lang.reflect.Field;
import org.eclipse.jetty.server.Connector;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/** DynamoDB Local on a free port of 127.0.0.1, which it prints; by itself it would listen on every address. */
class DynamoDbLocal {
    public static void main(String[] arguments) throws Exception {
        DynamoDBProxyServer proxy =
                ServerRunner.createServerFromCommandLineArgs(
                        new String[] {"-inMemory", "-sharedDb", "-disableTelemetry", "-port", "8000"});
        Field field = DynamoDBProxyServer.class.getDeclaredField("server");
        field.setAccessible(true);
        Server server = (Server) field.get(proxy);
        for (Connector connector : server.getConnectors()) {
            ((ServerConnector) connector).setHost("127.0.0.1");
            ((ServerConnector) connector).setPort(0);
        }
        proxy.start();
        System.out.println("port " + ((ServerConnector) server.getConnectors()[0]).getLocalPort());
        // Whoever started it ends it, or is ended himself: then its input ends.
        while (System.in.read() >= 0) {}
        System.exit(0);
    }
}
